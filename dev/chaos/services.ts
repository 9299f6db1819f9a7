/** PostgreSQL, Redis and the provider, each where the monkey can get at it without harm to anybody else. */
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import postgres from 'postgres';
import { startTcpProxy, type TcpProxy } from '../../tests/support/tcp-proxy.ts';
import { type OpenAiServerProcess, spawnOpenAiServer } from '../openai-server/control-client.ts';
import type { KeyConfig } from '../openai-server/settings.ts';
import type { Opened } from './opened.ts';
import { createOwnDatabase, type OwnDatabase } from './own-database.ts';
import { type OwnRedis, startOwnRedis } from './redis-server.ts';
import { createTables, POISON_WORD } from './tables.ts';

export type Services = {
  readonly database: OwnDatabase;
  /** Not by way of the proxy: the suite sees what is there while the product does not. */
  readonly sql: postgres.Sql;
  /** All that the product knows of Postgres. */
  readonly proxy: TcpProxy;
  readonly redis: OwnRedis;
  readonly openai: OpenAiServerProcess;
};

/** Every call takes a while, so that a kill finds some under way. */
const LATENCY_MS = 200;

export async function openServices(
  opened: Opened,
  databaseUrl: string,
  keys: readonly KeyConfig[],
): Promise<Services> {
  const database = await createOwnDatabase(databaseUrl);
  opened.add(() => database.drop());
  const sql = postgres(database.url, {
    max: 4,
    onnotice: () => undefined,
    connection: { application_name: 'chaos', statement_timeout: 20_000 },
  });
  opened.add(() => sql.end({ timeout: 2 }));
  await createTables(sql);
  const proxy = await startTcpProxy(database.url);
  opened.add(() => proxy.close());

  const folder = await mkdtemp(join(tmpdir(), 'infill-chaos-redis-'));
  opened.add(() => rm(folder, { recursive: true, force: true }));
  const redis = await startOwnRedis(folder, await freePort());
  opened.add(() => redis.kill(), redis.killNow);

  const openai = await spawnOpenAiServer({
    keys: [...keys],
    poison: [{ marker: POISON_WORD }],
    latency: { fixedMs: LATENCY_MS },
  });
  // It ends with its standard input, which is ours, if we have no time for it.
  opened.add(() => openai.stop());
  return { database, sql, proxy, redis, openai };
}

/** A port that nobody listened on a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('a TCP server has a port');
  return address.port;
}
