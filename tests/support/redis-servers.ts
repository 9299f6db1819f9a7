/** Servers of Redis of a test's own: replicas, nodes of a cluster, sentinels. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { findRedisServer } from '../../dev/services/redis-server-binary.ts';
import { freePort } from './process.ts';

export type RedisServer = {
  readonly port: number;
  readonly url: string;
  readonly client: Redis;
  /** Ends the process without notice. */
  kill(): Promise<void>;
};

export type RedisServers = {
  /** Starts a server with these lines in its configuration, and waits until it answers. */
  start(...lines: string[]): Promise<RedisServer>;
  startSentinel(...lines: string[]): Promise<RedisServer>;
  close(): Promise<void>;
};

export async function openRedisServers(): Promise<RedisServers> {
  const binary = findRedisServer();
  const folder = await mkdtemp(join(tmpdir(), 'infill-redis-'));
  const children: ChildProcess[] = [];
  const clients: Redis[] = [];

  async function start(flags: string[], lines: string[]): Promise<RedisServer> {
    const port = await freePort();
    const file = join(folder, `${port}.conf`);
    const own = [
      `port ${port}`,
      'bind 127.0.0.1',
      `dir ${folder}`,
      'save ""',
      'appendonly no',
      'daemonize no',
    ];
    await writeFile(file, [...own.slice(0, flags.length > 0 ? 3 : 6), ...lines, ''].join('\n'));
    const child = spawn(binary, [file, ...flags], { stdio: 'ignore' });
    children.push(child);
    const client = new Redis({
      host: '127.0.0.1',
      port,
      enableReadyCheck: false,
      maxRetriesPerRequest: null,
    });
    client.on('error', () => undefined);
    clients.push(client);
    await client.call('INFO', 'server');
    return {
      port,
      url: `redis://127.0.0.1:${port}`,
      client,
      async kill() {
        if (child.exitCode !== null || child.signalCode !== null) return;
        child.kill('SIGKILL');
        await once(child, 'exit');
      },
    };
  }

  return {
    start: (...lines) => start([], lines),
    startSentinel: (...lines) => start(['--sentinel'], lines),
    async close() {
      for (const client of clients) client.disconnect();
      for (const child of children) {
        if (child.exitCode !== null || child.signalCode !== null) continue;
        child.kill('SIGKILL');
        await once(child, 'exit');
      }
      await rm(folder, { recursive: true, force: true });
    },
  };
}
