/** The whole system for a test: a database, Redis, a provider, and the API and workers as real processes. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import postgres from 'postgres';
import { inject } from 'vitest';
import { hashEmbedding } from '../../dev/openai-server/encoders.ts';
import {
  type OpenAiServer,
  type OpenAiServerOptions,
  startOpenAiServer,
} from '../../dev/openai-server/server.ts';
import { backoffCeilingMs } from '../../src/core/backoff.ts';
import { BATCH_ATTEMPTS_MAX, BATCH_BACKOFF_FACTOR_MAX } from '../../src/queue/jobs.ts';
import { type Proxies, startBetween } from './between.ts';
import { callApi } from './call-api.ts';
import { addNotes, createNotes, type NewNote } from './notes.ts';
import { freePort, type Process, startProcess } from './process.ts';
import type { ProviderGate } from './provider-gate.ts';
import { createTestDatabase, createTestRedis } from './services.ts';

export const ADMIN_SECRET = 'planted-admin-secret-4711';
export const PLATFORM_KEY = 'sk-planted-platform-key-0001';
export const DIMENSIONS = 8;
/** A second or two, but for a machine that has much else to do. */
const START_MS_MAX = 60_000;
const WORK_MS_MAX = 45_000;
/** A fiftieth of the default: what is tested is that work is tried again, not how long it rests before. */
const RETRY_BACKOFF_MS = 20;
/** Longest that a batch takes to use up its attempts: every backoff as long as it may be, and time for the work. */
export const ALL_ATTEMPTS_MS = Array.from({ length: BATCH_ATTEMPTS_MAX - 1 }, (_, index) =>
  backoffCeilingMs(index + 1, {
    baseMs: RETRY_BACKOFF_MS,
    maxMs: BATCH_BACKOFF_FACTOR_MAX * RETRY_BACKOFF_MS,
  }),
).reduce((sum, ceilingMs) => sum + ceilingMs, WORK_MS_MAX);
export const MODEL = 'text-embedding-3-small';

export type SystemOptions = {
  readonly workers?: number;
  readonly api?: boolean;
  readonly env?: Readonly<Record<string, string>>;
  readonly openai?: OpenAiServerOptions;
  /** Further fields of the target. */
  readonly target?: Readonly<Record<string, unknown>>;
  /** Further targets, by name, as `targets.json` has them. */
  readonly targets?: Readonly<Record<string, unknown>>;
  /** Puts a gate before the provider: `gate` then lets a test act while an answer is on its way. */
  readonly gated?: boolean;
  /** Puts proxies before Postgres and Redis: `proxies` then takes them away from the processes. */
  readonly proxied?: boolean;
  /** Without the partial index the plain query finds the tenants. */
  readonly withIndex?: boolean;
};

// biome-ignore lint/suspicious/noExplicitAny: what an answer holds is checked by what a test expects of it
export type Json = any;
export type Row = {
  readonly id: string;
  readonly tenant_id: string | null;
  readonly content: string | null;
  readonly embedding: string | null;
};

export type System = Awaited<ReturnType<typeof startSystem>>;

/** Starts everything; `close` ends all of it, by pid. Table `notes (id bigint, tenant_id, content, embedding)`. */
export async function startSystem(options: SystemOptions = {}) {
  const opened: (() => Promise<unknown>)[] = [];
  try {
    return await openSystem(options, opened);
  } catch (error) {
    for (const close of opened.toReversed()) await close();
    throw error;
  }
}

async function openSystem(options: SystemOptions, opened: (() => Promise<unknown>)[]) {
  const database = await createTestDatabase();
  opened.push(() => database.close());
  const redis = await createTestRedis();
  opened.push(() => redis.close());
  const openai: OpenAiServer = await startOpenAiServer({
    keys: [{ key: PLATFORM_KEY, organization: 'org-platform' }],
    ...options.openai,
  });
  opened.push(() => openai.close());
  const sql = postgres(database.url, { max: 2, onnotice: () => undefined });
  opened.push(() => sql.end({ timeout: 2 }));
  const { gate, proxies } = await startBetween(options, { openai, database, redis });
  opened.push(
    async () => void (await Promise.all([gate?.close(), proxies?.postgres.close(), proxies?.redis.close()])),
  );
  await createNotes(sql, { dimensions: DIMENSIONS, withIndex: options.withIndex ?? true });

  const folder = await mkdtemp(join(tmpdir(), 'infill-test-'));
  opened.push(() => rm(folder, { recursive: true, force: true }));
  const targetsFile = join(folder, 'targets.json');
  await writeFile(
    targetsFile,
    JSON.stringify({ targets: { ...targetsOf(options.target), ...options.targets } }),
  );
  const [port, workerPort] = [await freePort(), await freePort()];

  const env: Record<string, string> = {
    PATH: process.env.PATH ?? '',
    DATABASE_URL: proxies?.postgres.url ?? database.url,
    REDIS_URL: proxies?.redis.url ?? redis.url,
    ADMIN_SECRET,
    OPENAI_API_KEY: PLATFORM_KEY,
    OPENAI_BASE_URL: gate?.url ?? openai.url,
    CREDENTIALS_KEY: randomBytes(32).toString('base64'),
    TARGETS_FILE: targetsFile,
    PORT: String(port),
    WORKER_PORT: '0',
    SHUTDOWN_GRACE_MS: '10000',
    // The suite's calls are few and far below any real limit; a slow start would only make it slow.
    PACING_START_FRACTION: '10',
    RETRY_BACKOFF_MS: String(RETRY_BACKOFF_MS),
    POLL_EVERY_MS: '200',
    SWEEP_EVERY_MS: '2000',
    ...options.env,
  };
  const processes: Process[] = [];
  opened.push(async () => void (await Promise.all(processes.map((one) => one.stop('SIGKILL')))));
  const start = (entry: string, extra: Record<string, string> = {}): Process => {
    const started = startProcess(entry, { ...env, ...extra });
    processes.push(started);
    return started;
  };
  const url = `http://127.0.0.1:${port}`;
  const call = (method: string, path: string, init: RequestInit = {}) =>
    callApi({ url, secret: ADMIN_SECRET }, method, path, init);

  const system = {
    sql,
    openai,
    env,
    url,
    redisUrl: redis.url,
    databaseUrl: database.url,
    get gate(): ProviderGate {
      if (gate === undefined) throw new Error('start the system with `gated: true`');
      return gate;
    },
    get proxies(): Proxies {
      if (proxies === undefined) throw new Error('start the system with `proxied: true`');
      return proxies;
    },
    processes,
    workerPort,
    call,
    startApi: async () => {
      const api = start('src/api.ts');
      await until(
        async () => (await call('GET', '/livez').catch(() => undefined))?.status === 200,
        'the API answers',
        api,
        START_MS_MAX,
      );
      return api;
    },
    startWorker: async (extra: Record<string, string> = {}) => {
      const worker = start('src/worker.ts', extra);
      await until(
        async () => worker.output().includes('worker_started'),
        'the worker starts',
        worker,
        START_MS_MAX,
      );
      return worker;
    },
    /** Starts a run and waits for its end. */
    backfill: async (query = ''): Promise<Json> => {
      const started = await call('POST', `/api/v1/admin/backfill-embeddings${query}`);
      if (started.status !== 202)
        throw new Error(
          `the run did not start: ${JSON.stringify(started.body)}\n${system.output().slice(-4000)}`,
        );
      return system.settled(started.body.runId);
    },
    run: async (runId: string): Promise<Json> =>
      (await call('GET', `/api/v1/admin/backfill-embeddings/${runId}`)).body,
    settled: async (runId: string, timeoutMs = 60_000): Promise<Json> => {
      let run: Json;
      await until(
        async () => {
          run = await system.run(runId);
          return ['succeeded', 'incomplete', 'cancelled', 'failed'].includes(run.status);
        },
        () => `run ${runId} settles, it is ${JSON.stringify(run)}`,
        undefined,
        timeoutMs,
      );
      return run;
    },
    /** Gives a tenant a key of its own, which the provider knows under an organisation of its own. */
    giveKey: async (tenantId: string, apiKey: string): Promise<void> => {
      openai.accounts.put({ key: apiKey, organization: `org-${tenantId}` });
      const put = await call(
        'PUT',
        `/api/v1/admin/tenants/${encodeURIComponent(tenantId)}/credential`,
        jsonBody({ apiKey }),
      );
      if (put.status !== 200) throw new Error(`the key was not stored: ${JSON.stringify(put.body)}`);
    },
    /** Every item of a run's `rows` or `tenants`, page by page. */
    listed: async (runId: string, what: 'rows' | 'tenants', limit = 1_000): Promise<Json[]> => {
      const items: Json[] = [];
      for (let cursor = ''; ; ) {
        const page = await call(
          'GET',
          `/api/v1/admin/backfill-embeddings/${runId}/${what}?limit=${limit}${cursor}`,
        );
        items.push(...page.body.items);
        if (page.body.nextCursor === null) return items;
        cursor = `&cursor=${encodeURIComponent(page.body.nextCursor)}`;
      }
    },
    addRows: (rows: readonly NewNote[]) => addNotes(sql, rows),
    rows: async (): Promise<Row[]> => [
      ...(await sql<Row[]>`SELECT id, tenant_id, content, embedding::text FROM notes ORDER BY id`),
    ],
    output: () => processes.map((one) => one.output()).join('\n'),
    close: async () => {
      for (const close of opened.toReversed()) await close();
    },
  };
  if (options.api !== false) await system.startApi();
  for (let count = 0; count < (options.workers ?? 1); count++) await system.startWorker();
  return system;
}

/** Whether the suite runs on a real Postgres: only there do transactions run side by side, and thousands of rows quickly. */
export function isRealPostgres(): boolean {
  return inject('testServices').databaseUrl !== null;
}

export function jsonBody(body: unknown): RequestInit {
  return { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
}

/** Rows whose embedding is not what it is to be: of their present text, or NULL where that is blank. */
export function wrongRows(rows: readonly Row[]): Row[] {
  return rows.filter(({ content, embedding }) => {
    if (content === null || content.trim() === '') return embedding !== null;
    return embedding === null || JSON.stringify(parseVector(embedding)) !== JSON.stringify(vectorOf(content));
  });
}

/** What the provider answers for a text, as Postgres shows it. */
export function vectorOf(text: string): number[] {
  return [...hashEmbedding(text, MODEL, DIMENSIONS)];
}

export function parseVector(embedding: string): number[] {
  return [...Float32Array.from(JSON.parse(embedding) as number[])];
}

/** Waits for a condition, at most `timeoutMs`; says what did not come about, and the process's output. */
export async function until(
  condition: () => Promise<boolean>,
  what: string | (() => string),
  related?: Process,
  timeoutMs = 30_000,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > deadline) {
      const said = typeof what === 'string' ? what : what();
      throw new Error(`waited ${timeoutMs} ms in vain: ${said}\n${related?.output() ?? ''}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function targetsOf(extra: Readonly<Record<string, unknown>> = {}) {
  const columns = {
    id: 'id',
    tenant: 'tenant_id',
    text: ['content'],
    embedding: 'embedding',
    model: MODEL,
    dimensions: DIMENSIONS,
  };
  return { notes: { table: 'notes', ...columns, ...extra }, absent: { table: 'not_there_yet', ...columns } };
}
