/**
 * Preloaded into the API and workers that the demo, the benchmarks or the chaos run start (`node --import`), whose
 * entries know nothing of it: ends the process at once when its standard input does, so that it never outlives who
 * started it, however that ends.
 */
process.stdin.once('close', () => process.kill(process.pid, 'SIGKILL'));
// Nobody may be there to read the log any more.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
process.stdin.resume();
(process.stdin as { unref?: () => void }).unref?.();
