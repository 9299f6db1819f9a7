/** The admin API and Bull Board: opens, serves, closes. */
import type { Redis } from 'ioredis';
import { type Config, ConfigError, loadEnvFile, readConfiguration } from './config.ts';
import { pacingRules } from './core/pacing-rules.ts';
import { type Db, openDatabase } from './db/client.ts';
import { createInspector } from './db/inspector.ts';
import { findPooling } from './db/pooler.ts';
import { listRunTenants } from './db/run-tenants.ts';
import { readRun } from './db/runs.ts';
import { checkSchema } from './db/schema-check.ts';
import { auditRoutes } from './http/audit.ts';
import { backfillRoutes } from './http/backfills.ts';
import { observeBacklog } from './http/backlog-metrics.ts';
import { budgetRoutes } from './http/budgets.ts';
import { controlRoutes } from './http/controls.ts';
import { credentialRoutes } from './http/credentials.ts';
import { doctorRoutes, type RedisFacts } from './http/doctor.ts';
import { endedInRedis } from './http/ended-sessions.ts';
import type { TargetRoutesDeps } from './http/estimate.ts';
import { createRegistry } from './http/metrics.ts';
import { quarantineRoutes } from './http/quarantine.ts';
import { createRedisCheck, waitForOwnRedis } from './http/redis-check.ts';
import { rekeyRoutes } from './http/rekey.ts';
import type { RunView } from './http/run-page.ts';
import { buildServer } from './http/server.ts';
import { isRunId, runShape, tenantShape } from './http/shapes.ts';
import { switchRoutes } from './http/switches.ts';
import { targetRoutes } from './http/targets.ts';
import { createLog, type Log } from './log.ts';
import { createOpenAiEmbedder, trialRequest } from './openai/embedder.ts';
import { createPacer } from './pacing/pacer.ts';
import { countSlots } from './pacing/worker-slots.ts';
import { closeQueues, openQueues } from './queue/enqueue.ts';
import { openRedis } from './queue/redis.ts';
import { RedisOwnedByOther } from './queue/redis-owner.ts';
import { type Closeable, onSignals } from './shutdown.ts';

const CONNECTIONS_MAX = 10;
/** For trying a key while somebody waits for the answer. */
const KEY_TRIAL_TIMEOUT_MS = 10_000;
/** A Redis that hangs is found out by the readiness check; this is for one that hangs just after it. */
const REDIS_COMMAND_MS_MAX = 5_000;
const TENANTS_SHOWN_MAX = 200;
/** How long a start waits for Redis before it serves all the same. */
const OWNER_WAIT_MS = 2_000;

async function main(): Promise<void> {
  loadEnvFile(process.env);
  const { config, targets } = readConfiguration(process.env);
  const log = createLog({ level: config.log.level, name: 'infill-api', secrets: config.secrets });
  const stopping = new AbortController();
  const opened: Closeable[] = [];
  onSignals({ stopping, opened, graceMs: config.shutdownGraceMs, log });

  const { database, pooling, connection, queues, embedder } = openServices(config, log, opened);
  const { redis } = connection;
  const { db } = database;
  const checkRedis = createRedisCheck(connection, { db, keyPrefix: config.redis.keyPrefix });
  // A Redis that is away is no reason not to start; one that is another database's is.
  await waitForOwnRedis(checkRedis, AbortSignal.any([stopping.signal, AbortSignal.timeout(OWNER_WAIT_MS)]));
  const inspect = createInspector(db, targets);
  const [firstTarget] = targets.values();
  const routesDeps = { db, queues, inspect, targets };
  const registry = createRegistry();
  observeBacklog(registry, db);

  const server = await buildServer({
    log,
    adminSecret: config.adminSecret,
    adminSecretPrevious: config.adminSecretPrevious,
    viewerSecret: config.viewerSecret,
    endedSessions: endedInRedis(redis, config.redis.keyPrefix, log),
    environment: config.environmentName,
    registry,
    isStopping: () => stopping.signal.aborted,
    checks: [
      { name: 'postgres', check: () => checkSchema(db) },
      { name: 'redis', check: checkRedis },
    ],
    queues: [queues.runs, queues.tenants, queues.batches],
    routes: [
      backfillRoutes(routesDeps),
      controlRoutes(routesDeps),
      credentialRoutes({ ...routesDeps, keys: config.keys, tryKey }),
      rekeyRoutes({ db, keys: config.keys }),
      quarantineRoutes(routesDeps),
      switchRoutes(routesDeps),
      auditRoutes(routesDeps),
      budgetRoutes(routesDeps),
      targetRoutes({ ...routesDeps, ...limitsDeps(config, redis) }),
      doctorRoutes({
        ...routesDeps,
        pooling,
        keys: config.keys,
        redis: redisFacts(redis, config.redis.keyPrefix, checkRedis),
      }),
    ],
    readRun: (runId) => readRunView(db, runId),
  });
  opened.push({ name: 'server', close: () => server.close() });
  await server.listen({ host: config.http.host, port: config.http.port });
  log.info({ port: config.http.port, targets: [...targets.keys()] }, 'api_started');

  async function tryKey(credential: Parameters<typeof embedder.embed>[0]): Promise<void> {
    if (firstTarget === undefined)
      throw new ConfigError(['TARGETS_FILE names no target, so that no model can be tried']);
    await embedder.embed(credential, trialRequest(firstTarget), stopping.signal);
  }
}

function openServices(config: Config, log: Log, opened: Closeable[]) {
  const pooling = findPooling(config.database.url, config.database.pooler);
  const database = openDatabase(config.database.url, {
    connectionsMax: CONNECTIONS_MAX,
    applicationName: 'infill-api',
    pooling,
  });
  opened.push({ name: 'postgres', close: () => database.close() });

  // Nobody may wait for a Redis that is away: a command fails at once, or when its time is over, and the caller gets a 503.
  const connection = openRedis(config.redis, {
    commandMsMax: REDIS_COMMAND_MS_MAX,
    onError: (error) => log.warn({ err: error }, 'redis_error'),
  });
  opened.push({ name: 'redis', close: async () => connection.redis.disconnect() });

  const queues = openQueues(connection.redis, config.redis.keyPrefix);
  opened.push({ name: 'queues', close: () => closeQueues(queues) });

  const embedder = createOpenAiEmbedder({
    connectionsMax: 4,
    timeoutMs: KEY_TRIAL_TIMEOUT_MS,
    own: config.keys,
  });
  opened.push({ name: 'embedder', close: () => embedder.close() });
  return { database, pooling, connection, queues, embedder };
}

function redisFacts(redis: Redis, keyPrefix: string, check: () => Promise<void>): RedisFacts {
  return {
    check,
    keyPrefix,
    memory: () => redis.info('memory'),
    now: async () => {
      const [seconds, micros] = await redis.time();
      return Number(seconds) * 1_000 + Number(micros) / 1_000;
    },
    slots: () => countSlots(redis, keyPrefix),
  };
}

/** What the time of an estimate is reckoned by. */
function limitsDeps(
  { keys, pacing, redis: { keyPrefix } }: Config,
  redis: Redis,
): Pick<TargetRoutesDeps, 'keys' | 'learnedLimits' | 'startFraction'> {
  const pacer = createPacer(redis, { keyPrefix, rules: pacingRules(pacing.startFraction) });
  return {
    keys,
    learnedLimits: async (holder, model) => (await pacer.stateOf(holder, model)).limits,
    startFraction: pacing.startFraction,
  };
}

/** Null when there is no such run, also because `runId` is no UUID. */
async function readRunView(db: Db, runId: string): Promise<RunView | null> {
  const run = isRunId(runId) ? await readRun(db, runId) : undefined;
  if (run === undefined) return null;
  const tenants = await listRunTenants(db, runId, { after: null, limit: TENANTS_SHOWN_MAX });
  return { run: runShape(run), tenants: tenants.map(tenantShape) };
}

main().catch((error: unknown) => {
  const words =
    error instanceof RedisOwnedByOther ? `Redis is not usable: ${error.message}` : (error as Error).message;
  const isPlain = error instanceof RedisOwnedByOther || error instanceof ConfigError;
  process.stderr.write(`${isPlain ? words : (error as Error).stack}\n`);
  process.exit(1);
});
