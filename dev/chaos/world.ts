/** Everything that the suite runs on: services, the product's processes, tenants. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type AdminApi, adminApi } from './admin-api.ts';
import { LogWatch } from './log-watch.ts';
import type { Opened } from './opened.ts';
import { ProductSlot } from './product-slot.ts';
import { freePort, openServices, type Services } from './services.ts';
import { Rows, targetsJson } from './tables.ts';

export const WORKERS = 3;
/** Batches that one worker runs at once. */
export const WORKER_CONCURRENCY = 4;

export type Tenant = {
  readonly id: string;
  /** Its own keys, the present one last; empty for a tenant that uses the platform's. */
  readonly keys: string[];
};

export type World = Services & {
  /** Where the processes run and write their logs. */
  readonly folder: string;
  readonly api: ProductSlot;
  readonly workers: readonly ProductSlot[];
  readonly admin: AdminApi;
  readonly tenants: readonly Tenant[];
  readonly rows: Rows;
  readonly logs: LogWatch;
  /** Processes that ended although nobody ended them. */
  readonly crashes: string[];
  /** What the monkey has taken away at the moment; empty when all is well. */
  readonly missing: Set<string>;
};

/** What an account may spend while nobody lowers it. Told by every answer, as OpenAI does. */
export const PLENTY = { requestsPerMinute: 60_000, tokensPerMinute: 10_000_000, burstSeconds: 60 };
export const PLATFORM_KEY = 'sk-chaos-platform-4711';
/** Ids as users have them: none may get into a job's id or a log line raw and break it. */
const TENANT_IDS = ['acme', 'globex', 'initech', 'häuser: 9', 'umbrella/eu', 'hooli', '4711', 'wayne & sons'];

/** Starts everything, with no row in any table. Whoever calls it closes `opened`, also when this rejects. */
export async function openWorld(opened: Opened, databaseUrl: string, seed: number): Promise<World> {
  const tenants = TENANT_IDS.map((id, index) => ({
    id,
    keys: index % 2 === 0 ? [] : [`sk-chaos-own-${index}-0`],
  }));
  const services = await openServices(opened, databaseUrl, [
    { key: PLATFORM_KEY, organization: 'org-platform', ...PLENTY },
    ...tenants.flatMap(({ id, keys }) => keys.map((key) => ({ key, organization: `org-${id}`, ...PLENTY }))),
  ]);
  const folder = await mkdtemp(join(tmpdir(), 'infill-chaos-'));
  const port = await freePort();
  const secret = randomBytes(16).toString('hex');
  const env = await environmentOf(services, { folder, port, secret });

  const crashes: string[] = [];
  const logs = new LogWatch(['sk-chaos-']);
  const watch = { onLine: logs.see, onCrash: (what: string) => crashes.push(what) };
  const slot = (name: string, entry: string, readyEvent: string) => {
    const made = new ProductSlot({ name, entry, readyEvent, folder, env, ...watch });
    opened.add(
      () => made.kill(),
      () => made.killNow(),
    );
    return made;
  };
  const api = slot('api', '../../src/api.ts', 'api_started');
  const workers = Array.from({ length: WORKERS }, (_, index) =>
    slot(`worker-${index}`, '../../src/worker.ts', 'worker_started'),
  );
  await Promise.all([api, ...workers].map((each) => each.start()));
  const admin = adminApi(`http://127.0.0.1:${port}`, secret);
  for (const { id, keys } of tenants) for (const key of keys) await storeKey(admin, id, key);

  const rows = new Rows(services.sql, seed);
  return {
    ...services,
    ...{ folder, api, workers, admin, tenants, rows, logs, crashes },
    missing: new Set(),
  };
}

/** Stores a tenant's key. Returns false when the API did not take it. */
export async function storeKey(admin: AdminApi, tenantId: string, apiKey: string): Promise<boolean> {
  const path = `/tenants/${encodeURIComponent(tenantId)}/credential?check=false`;
  return (await admin.call('PUT', path, { body: { apiKey } })).status === 200;
}

async function environmentOf(
  { proxy, redis, openai }: Services,
  { folder, port, secret }: { folder: string; port: number; secret: string },
): Promise<Record<string, string>> {
  const targetsFile = join(folder, 'targets.json');
  await writeFile(targetsFile, targetsJson());
  return {
    PATH: process.env.PATH ?? '',
    DATABASE_URL: proxy.url,
    REDIS_URL: redis.url,
    ADMIN_SECRET: secret,
    OPENAI_API_KEY: PLATFORM_KEY,
    OPENAI_BASE_URL: openai.url,
    CREDENTIALS_KEY: randomBytes(32).toString('base64'),
    TARGETS_FILE: targetsFile,
    HOST: '127.0.0.1',
    PORT: String(port),
    WORKER_PORT: '0',
    WORKER_CONCURRENCY: String(WORKER_CONCURRENCY),
    TENANT_WINDOW: '3',
    SHUTDOWN_GRACE_MS: '8000',
    // Hours of an outage in seconds; and no slow start, since no limit is near unless the monkey sets one.
    BREAKER_OPEN_MS: '500',
    BREAKER_OPEN_MAX_MS: '3000',
    PACING_START_FRACTION: '10',
  };
}
