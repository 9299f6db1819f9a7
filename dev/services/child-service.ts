import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** A service that runs as a process of its own. */
export type ChildService = {
  readonly url: string;
  /** The process that serves, for tests that kill or freeze it. */
  readonly pid: number;
  /** Ends the service and resolves when its process is gone. Safe to repeat. */
  close(): Promise<void>;
};

/** How long a child may take to end by itself before it is killed. */
const CLOSE_GRACE_MS = 5_000;

/**
 * Runs a service entry as its own process and waits for the JSON line `{"url", "pid"}` that it prints when it is ready.
 *
 * The child ends when its stdin does: on `close()`, and by itself when this process dies, however it dies.
 *
 * @throws {Error} when the child ends before it is ready; why is on stderr, which it shares with this process.
 */
export async function startChildService(entry: URL, args: readonly string[]): Promise<ChildService> {
  const child = spawn(process.execPath, [fileURLToPath(entry), ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
    // A group of its own: Ctrl-C in a terminal must not take the database from under those who still use it.
    detached: true,
  });
  // Writing nothing, we can still be told that the other end has closed.
  child.stdin.on('error', () => {});
  const exited = new Promise<void>((resolve) => child.once('close', () => resolve()));

  const announced = await Promise.race([firstLine(child.stdout), failsToStart(child)]);
  child.stdout.resume();
  // Neither the process nor its pipes keep ours alive: one that forgets to close a service still ends.
  for (const handle of [child, child.stdin, child.stdout]) (handle as { unref?: () => void }).unref?.();
  const { url, pid } = JSON.parse(announced) as { url: string; pid: number };

  return {
    url,
    pid,
    async close() {
      child.ref();
      child.stdin.end();
      const kill = setTimeout(() => child.kill('SIGKILL'), CLOSE_GRACE_MS);
      await exited;
      clearTimeout(kill);
    },
  };
}

/**
 * Calls `end` when stdin closes, which is how a parent says that it wants no more, or that it has died; then ends the
 * process, whatever came of `end`.
 *
 * For the entries that `startChildService` runs.
 */
export function onParentGone(end: () => Promise<void> = () => Promise.resolve()): void {
  process.stdin.resume();
  process.stdin.once('close', () => {
    // Not process.exit, which joins V8's compile threads: one of those may be waiting for this thread, for ever
    // (nodejs/node issue 54918). One in forty starts of PGlite that were interrupted stayed behind as an orphan.
    void end().finally(() => process.kill(process.pid, 'SIGKILL'));
  });
}

async function firstLine(stream: NodeJS.ReadableStream): Promise<string> {
  const lines = createInterface({ input: stream });
  for await (const line of lines) return line;
  return new Promise(() => {});
}

function failsToStart(child: ReturnType<typeof spawn>): Promise<never> {
  return new Promise((_resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) =>
      reject(new Error(`${child.spawnargs[1]} ended with ${signal ?? code}`)),
    );
  });
}
