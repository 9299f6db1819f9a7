/** A Redis of the suite's own, with an append-only file, that can be killed and brought back with what it knew. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { findRedisServer } from '../services/redis-server-binary.ts';

export type OwnRedis = {
  readonly url: string;
  /** SIGKILL. Resolves when the process is gone. */
  kill(): Promise<void>;
  /** Brings a killed one back on the same port and files. Resolves when it answers. */
  start(): Promise<void>;
  /** SIGKILL at once, for the way out. */
  killNow(): void;
};

/** Prints the server's pid, waits for the end of its input and then kills it: redis-server alone would outlive us. */
const KEEPER = '"$@" & echo "pid $!"; read -r _; kill -9 $! 2>/dev/null';

/** @throws {Error} when there is no redis-server, or it does not start. */
export async function startOwnRedis(folder: string, port: number): Promise<OwnRedis> {
  const binary = findRedisServer();
  const options = {
    port,
    bind: '127.0.0.1',
    dir: folder,
    save: '',
    appendonly: 'yes',
    appendfsync: 'everysec',
    'maxmemory-policy': 'noeviction',
  };
  const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
  let keeper: ChildProcess | undefined;
  let ended: Promise<unknown> = Promise.resolve();
  let pid: number | undefined;

  const start = async () => {
    const child = spawn('sh', ['-c', KEEPER, 'keeper', binary, ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
      detached: true,
    });
    ended = once(child, 'close');
    keeper = child;
    let said = '';
    for await (const line of createInterface({ input: child.stdout })) {
      said += `${line}\n`;
      const announced = /^pid (\d+)$/.exec(line)?.[1];
      if (announced !== undefined) pid = Number(announced);
      if (line.includes('Ready to accept connections')) {
        child.stdout.resume();
        return;
      }
    }
    // Struck down while it was starting, on a busy machine: who did it starts it again.
    if (child !== keeper || pid === undefined) return;
    throw new Error(`redis-server does not start: ${said}`);
  };

  const killNow = () => {
    // It has ended by itself if its pid is not there any more.
    if (pid !== undefined && isRunning(pid)) process.kill(pid, 'SIGKILL');
    pid = undefined;
    keeper?.stdin?.end();
  };

  await start();
  return {
    url: `redis://127.0.0.1:${port}`,
    start,
    killNow,
    kill: async () => {
      killNow();
      await ended;
    },
  };
}

/** The keeper has not waited for it, so that nobody else can have its pid. */
function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
