/** What a benchmark measures: the product's real processes on a real PostgreSQL, a Redis of their own and the local provider. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import postgres, { type Sql } from 'postgres';
import { type ProductProcess, startProductProcess } from '../dev/demo/product-process.ts';
import { type OpenAiServerProcess, spawnOpenAiServer } from '../dev/openai-server/control-client.ts';
import type { ServerConfig } from '../dev/openai-server/settings.ts';
import { startEmbeddedRedis } from '../dev/services/redis.ts';
import { migrate } from '../src/db/migrate.ts';

export type World = {
  readonly sql: Sql;
  readonly databaseUrl: string;
  readonly redisUrl: string;
  readonly openai: OpenAiServerProcess;
  readonly workers: readonly ProductProcess[];
  /** Stores a tenant's own key, without trying it. */
  giveKey(tenantId: string, apiKey: string): Promise<void>;
  /** Starts a run and returns its id. */
  start(query: string): Promise<string>;
  // biome-ignore lint/suspicious/noExplicitAny: a run as the API shows it
  run(runId: string): Promise<any>;
  /** Waits for the end of a run. Calls `look` every 200 ms meanwhile. */
  // biome-ignore lint/suspicious/noExplicitAny: a run as the API shows it
  settled(runId: string, look?: () => Promise<unknown>): Promise<any>;
  cancel(runId: string): Promise<void>;
};

export type WorldOptions = {
  readonly workers: number;
  /** Batches that each worker runs at once. */
  readonly slots: number;
  readonly dimensions: number;
  readonly provider?: ServerConfig;
  /** Further environment of the API and the workers. */
  readonly env?: Readonly<Record<string, string>>;
};

export const PLATFORM_KEY = 'sk-bench-platform-key';
export const MODEL = 'text-embedding-3-small';
const ADMIN_SECRET = 'the-secret-of-the-benchmarks';
const LOOK_EVERY_MS = 200;

/** Opens a world, lets `use` measure in it, and closes it whatever happens. */
export async function inWorld<Result>(
  options: WorldOptions,
  use: (world: World) => Promise<Result>,
): Promise<Result> {
  const opened: (() => Promise<unknown>)[] = [];
  try {
    return await use(await openWorld(options, opened));
  } finally {
    for (const close of opened.toReversed()) await close().catch(() => undefined);
  }
}

/** Opens a database of its own on the server of `TEST_DATABASE_URL`, with the product's schema. */
export async function openDatabase(
  dimensions: number,
  opened: (() => Promise<unknown>)[],
): Promise<{ sql: Sql; url: string }> {
  const serverUrl = process.env.TEST_DATABASE_URL;
  if (serverUrl === undefined) {
    throw new Error(
      'Set TEST_DATABASE_URL to a PostgreSQL with pgvector on which databases may be created: embedded Postgres is no measure.',
    );
  }
  const name = `infill_bench_${randomBytes(4).toString('hex')}`;
  const server = postgres(serverUrl, { max: 1, onnotice: () => undefined });
  opened.push(() => server.end());
  await server.unsafe(`CREATE DATABASE ${name}`);
  opened.push(() => server.unsafe(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`));
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  const sql = postgres(url.href, { max: 4, onnotice: () => undefined });
  opened.push(() => sql.end({ timeout: 2 }));
  await sql`CREATE EXTENSION vector`;
  await migrate(url.href);
  await sql.unsafe(`
    CREATE TABLE notes (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, tenant_id text, content text, embedding vector(${dimensions}));
    ALTER TABLE notes ALTER COLUMN embedding SET STORAGE external;
    CREATE INDEX notes_missing ON notes (tenant_id, id) WHERE embedding IS NULL`);
  return { sql, url: url.href };
}

/** Adds `rows` missing rows to a tenant; each text has about `bytes` bytes and is no other row's. */
export async function addRows(sql: Sql, tenantId: string, rows: number, bytes = 120): Promise<void> {
  await sql`
    INSERT INTO notes (tenant_id, content)
    SELECT ${tenantId}, rpad(${tenantId} || ' insight ' || n || ' ', ${bytes}::int, 'about the workflow that ran late again ')
      FROM generate_series(1, ${rows}::int) AS n`;
}

async function openWorld(options: WorldOptions, opened: (() => Promise<unknown>)[]): Promise<World> {
  const { sql, url: databaseUrl } = await openDatabase(options.dimensions, opened);
  const redis = await startEmbeddedRedis();
  opened.push(() => redis.close());
  const openai = await spawnOpenAiServer({
    keys: [{ key: PLATFORM_KEY, organization: 'org-platform' }],
    ledgerTexts: false,
    ...options.provider,
  });
  opened.push(() => openai.stop());
  const folder = await mkdtemp(join(tmpdir(), 'infill-bench-'));
  opened.push(() => rm(folder, { recursive: true, force: true }));
  await writeFile(
    join(folder, 'targets.json'),
    JSON.stringify({ targets: { notes: target(options.dimensions) } }),
  );

  const port = await freePort();
  const env = {
    DATABASE_URL: databaseUrl,
    REDIS_URL: redis.url,
    ADMIN_SECRET,
    OPENAI_API_KEY: PLATFORM_KEY,
    OPENAI_BASE_URL: openai.url,
    CREDENTIALS_KEY: randomBytes(32).toString('base64'),
    TARGETS_FILE: 'targets.json',
    HOST: '127.0.0.1',
    PORT: String(port),
    WORKER_PORT: '0',
    WORKER_CONCURRENCY: String(options.slots),
    SHUTDOWN_GRACE_MS: '3000',
    // As the images have it.
    NODE_OPTIONS: '--max-semi-space-size=16',
    // As `npm run start:worker` has it; the images need none of it.
    MALLOC_ARENA_MAX: '2',
    MALLOC_MMAP_THRESHOLD_: '131072',
    MALLOC_TRIM_THRESHOLD_: '262144',
    ...options.env,
  };
  const startProcess = async (name: string, entry: string, readyEvent: string) => {
    const started = startProductProcess({ name, entry: `../../src/${entry}`, readyEvent, folder, env });
    opened.push(() => started.stop());
    await started.ready();
    return started;
  };
  await startProcess('API', 'api.ts', 'api_started');
  const workers: ProductProcess[] = [];
  for (let count = 1; count <= options.workers; count++) {
    workers.push(await startProcess(`worker ${count}`, 'worker.ts', 'worker_started'));
  }
  return {
    sql,
    databaseUrl,
    redisUrl: redis.url,
    openai,
    workers,
    ...adminApi(`http://127.0.0.1:${port}/api/v1/admin`),
  };
}

function adminApi(url: string) {
  async function call(method: string, path: string, body?: unknown) {
    const answer = await fetch(`${url}${path}`, {
      method,
      headers: {
        'x-admin-secret': ADMIN_SECRET,
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return JSON.parse(text);
  }
  const run = (runId: string) => call('GET', `/backfill-embeddings/${runId}`);

  return {
    run,
    giveKey: (tenantId: string, apiKey: string) =>
      call('PUT', `/tenants/${encodeURIComponent(tenantId)}/credential?check=false`, { apiKey }),
    start: async (query: string) => (await call('POST', `/backfill-embeddings${query}`)).runId as string,
    async settled(runId: string, look: () => Promise<unknown> = async () => undefined) {
      for (;;) {
        const seen = await run(runId);
        if (['succeeded', 'incomplete', 'cancelled', 'failed'].includes(seen.status)) return seen;
        await look();
        await sleep(LOOK_EVERY_MS);
      }
    },
    cancel: async (runId: string) => {
      await call('POST', `/backfill-embeddings/${runId}/cancel`);
      while ((await run(runId)).status !== 'cancelled') await sleep(LOOK_EVERY_MS);
    },
  };
}

function target(dimensions: number) {
  return {
    table: 'notes',
    id: 'id',
    tenant: 'tenant_id',
    text: ['content'],
    embedding: 'embedding',
    model: MODEL,
    dimensions,
  };
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('a TCP server has a port');
  return address.port;
}
