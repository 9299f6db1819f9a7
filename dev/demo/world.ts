/** Everything that the demo starts, and how it ends again. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import postgres, { type Sql } from 'postgres';
import { migrate } from '../../src/db/migrate.ts';
import { type OpenAiServerProcess, spawnOpenAiServer } from '../openai-server/control-client.ts';
import { SAMPLE_DIMENSIONS, shippedEmbeddings } from '../sample/shipped-embeddings.ts';
import { createSampleTable, loadSample } from '../sample/table.ts';
import { SAMPLE_TENANTS } from '../sample/tenants.ts';
import { startEmbeddedPostgres } from '../services/postgres.ts';
import { startEmbeddedRedis } from '../services/redis.ts';
import { type AdminApi, adminApi } from './admin-api.ts';
import { DemoFailure } from './failure.ts';
import { type ProductProcess, startProductProcess } from './product-process.ts';

export type World = {
  readonly sql: Sql;
  readonly openai: OpenAiServerProcess;
  readonly api: AdminApi;
  readonly worker: ProductProcess;
  /** Of the API, without a slash at its end. */
  readonly url: string;
  readonly adminSecret: string;
  readonly platformKey: string;
  /** Keys of the tenants that bring their own. */
  readonly ownKeys: ReadonlyMap<string, string>;
  /** Rejects when something of it ends although nobody stopped it. */
  readonly broken: Promise<never>;
};

/** Tells of a step that was taken, and how long it took. */
export type OnStep = (what: string, tookMs: number) => void;

/** Where one looks first. Another one is taken when it is not free. */
const PORT_WANTED = 3_000;
/** One encoder embeds everything: with more batches at once each of them takes longer, and all bars stand still at first. */
const WORKER_CONCURRENCY = 4;
/** Nothing of the demo is worth waiting for when it ends. */
const SHUTDOWN_GRACE_MS = 2_000;
export const WATCH_EVERY_MS = 500;

/** What was opened, to be closed in the reverse order. */
export class Opened {
  readonly #closers: (() => Promise<unknown>)[] = [];
  #closed = false;

  /** Closes `closer` right away when all else is closed already: what was still starting then. */
  add(closer: () => Promise<unknown>): void {
    if (this.#closed) void closer().catch(() => undefined);
    else this.#closers.push(closer);
  }

  /** Never throws; the second call does nothing. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const close of this.#closers.splice(0).toReversed()) {
      await close().catch(() => undefined);
    }
  }
}

/**
 * Starts Postgres, Redis, the provider, the API and one worker, on loopback only, with the sample loaded and the
 * tenants' own keys stored. All of it lives in memory and in a temporary folder.
 *
 * Adds each thing to `opened` as soon as it is there, also when a later one fails.
 *
 * @throws {DemoFailure} that says what could not be started.
 */
export async function openWorld(opened: Opened, stopping: AbortSignal, onStep: OnStep): Promise<World> {
  const step = stepper(stopping, onStep);
  const platformKey = newKey();
  const withOwnKey = SAMPLE_TENANTS.filter(({ ownKey }) => ownKey);
  const ownKeys = new Map(withOwnKey.map(({ tenantId }) => [tenantId, newKey()]));
  const adminSecret = randomBytes(12).toString('hex');

  const services = await startServices(opened, step, [platformKey, ...ownKeys.values()]);
  const { databaseUrl, openai } = services;
  const sql = postgres(databaseUrl, { max: 1, onnotice: () => undefined });
  opened.add(() => sql.end({ timeout: 1 }));
  await step('migrations', () => migrate(databaseUrl));
  const [, product] = await Promise.all([
    step('a sample of 2,000 rows of 7 tenants', async () => {
      await createSampleTable(sql);
      await loadSample(sql, shippedEmbeddings);
    }),
    startProduct(opened, step, { ...services, platformKey, adminSecret }),
  ]);
  const { url, server, worker } = product;
  const api = adminApi(url, adminSecret);
  await step(`keys of the ${ownKeys.size} tenants that bring their own, tried and sealed`, async () => {
    for (const [tenantId, key] of ownKeys) await api.storeKey(tenantId, key);
  });
  const broken = watch([server, worker], services.watched);
  broken.catch(() => undefined);
  return { sql, openai, api, worker, url, adminSecret, platformKey, ownKeys, broken };
}

type Step = <T>(what: string, work: () => Promise<T>) => Promise<T>;

function stepper(stopping: AbortSignal, onStep: OnStep): Step {
  return async (what, work) => {
    stopping.throwIfAborted();
    const startedAtMs = performance.now();
    const result = await work().catch((error: Error) => {
      throw error instanceof DemoFailure ? error : new DemoFailure(`${capital(what)}: ${error.message}`);
    });
    if (!stopping.aborted) onStep(what, performance.now() - startedAtMs);
    return result;
  };
}

type Services = {
  readonly folder: string;
  readonly databaseUrl: string;
  readonly redisUrl: string;
  readonly openai: OpenAiServerProcess;
  readonly watched: readonly { readonly name: string; readonly pid: number }[];
};

/** What the product needs around it, all at once. */
async function startServices(opened: Opened, step: Step, keys: readonly string[]): Promise<Services> {
  const folder = await mkdtemp(join(tmpdir(), 'infill-demo-'));
  opened.add(() => rm(folder, { recursive: true, force: true }));
  const [database, redis, openai] = await Promise.all([
    step('PostgreSQL with pgvector, embedded', async () => {
      const service = await startEmbeddedPostgres({ discard: true });
      opened.add(() => service.close());
      return service;
    }),
    step('Redis', async () => {
      const service = await startEmbeddedRedis();
      opened.add(() => service.close());
      return service;
    }),
    step('an embeddings server that answers as OpenAI does, with a real sentence encoder', async () => {
      const server = await spawnOpenAiServer({ encoder: 'use', keys: keys.map((key) => ({ key })) });
      opened.add(() => server.stop());
      return server;
    }),
  ]);
  const watched = [
    { name: 'Postgres', pid: database.pid },
    { name: 'Redis', pid: redis.pid },
    { name: 'The embeddings server', pid: openai.pid },
  ];
  return { folder, databaseUrl: database.url, redisUrl: redis.url, openai, watched };
}

type Product = { readonly url: string; readonly server: ProductProcess; readonly worker: ProductProcess };

async function startProduct(
  opened: Opened,
  step: Step,
  needs: Services & { readonly platformKey: string; readonly adminSecret: string },
): Promise<Product> {
  const { folder } = needs;
  const port = await freePort(PORT_WANTED);
  // All that the processes see: nothing of the environment of whoever runs the demo can change it.
  const env = {
    PATH: process.env.PATH ?? '',
    DATABASE_URL: needs.databaseUrl,
    REDIS_URL: needs.redisUrl,
    ADMIN_SECRET: needs.adminSecret,
    CREDENTIALS_KEY: randomBytes(32).toString('base64'),
    OPENAI_API_KEY: needs.platformKey,
    OPENAI_BASE_URL: needs.openai.url,
    TARGETS_FILE: await writeTargets(folder),
    HOST: '127.0.0.1',
    PORT: String(port),
    WORKER_PORT: '0',
    WORKER_CONCURRENCY: String(WORKER_CONCURRENCY),
    ENVIRONMENT_NAME: 'demo',
    SHUTDOWN_GRACE_MS: String(SHUTDOWN_GRACE_MS),
  };
  const start = async (options: { name: string; entry: string; readyEvent: string }) => {
    const started = startProductProcess({ ...options, folder, env });
    opened.add(() => started.stop());
    await started.ready();
    return started;
  };
  const [server, worker] = await step('the API and one worker', () =>
    Promise.all([
      start({ name: 'API', entry: '../../src/api.ts', readyEvent: 'api_started' }),
      start({ name: 'worker', entry: '../../src/worker.ts', readyEvent: 'worker_started' }),
    ]),
  );
  return { url: `http://127.0.0.1:${port}`, server, worker };
}

/** Rejects when one of them ends, as its process or as the process id of a service. */
async function watch(
  products: readonly ProductProcess[],
  services: readonly { readonly name: string; readonly pid: number }[],
): Promise<never> {
  const ends = products.map(async (one): Promise<never> => {
    const how = await one.ended;
    throw new DemoFailure(`The ${one.name} ended by itself, with ${how}.`, one);
  });
  const isGone = new Promise<never>((_resolve, reject) => {
    setInterval(() => {
      const gone = services.find(({ pid }) => !isAlive(pid));
      if (gone !== undefined) reject(new DemoFailure(`${gone.name} ended by itself.`, products[1]));
    }, WATCH_EVERY_MS).unref();
  });
  return Promise.race([...ends, isGone]);
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function newKey(): string {
  return `sk-demo-${randomBytes(12).toString('hex')}`;
}

/** The table of the sample has the dimensions of the sentence encoder, which `text-embedding-3-small` may have too. */
async function writeTargets(folder: string): Promise<string> {
  const file = join(folder, 'targets.json');
  const target = {
    table: 'workflow_insights',
    id: 'id',
    tenant: 'tenant_id',
    text: ['content'],
    embedding: 'embedding',
    model: 'text-embedding-3-small',
    dimensions: SAMPLE_DIMENSIONS,
  };
  await writeFile(file, JSON.stringify({ targets: { workflow_insights: target } }));
  return file;
}

/** The port itself, or another one when somebody listens there, on loopback or on all addresses. */
async function freePort(wanted: number): Promise<number> {
  const isFree =
    (await tryPort(wanted, '127.0.0.1')) === wanted && (await tryPort(wanted, '0.0.0.0')) === wanted;
  return isFree ? wanted : ((await tryPort(0, '127.0.0.1')) ?? wanted);
}

function tryPort(port: number, host: string): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(undefined));
    server.listen(port, host, () => {
      const address = server.address();
      server.close(() => resolve(address !== null && typeof address === 'object' ? address.port : undefined));
    });
  });
}
