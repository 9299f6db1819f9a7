/**
 * Preloaded into the API and workers that the demo, the benchmarks or the chaos run start (`node --import`), whose
 * entries know nothing of it: ends the process when its standard input does, so that it never outlives who started it,
 * however that ends.
 */
const KILL_AFTER_MS = 5_000;

process.stdin.once('close', () => {
  process.kill(process.pid, 'SIGTERM');
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), KILL_AFTER_MS).unref();
});
// Nobody may be there to read the log any more.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
process.stdin.resume();
(process.stdin as { unref?: () => void }).unref?.();
