/** A worker: opens, works, closes. */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Registry } from 'prom-client';
import { CarefulWrites } from './backfill/careful-writes.ts';
import type { PlanDeps } from './backfill/deps.ts';
import { KeyGate } from './backfill/key-gate.ts';
import { LongWaits } from './backfill/long-waits.ts';
import { startRequestedRuns } from './backfill/requested-runs.ts';
import { forgetOld, RETENTION_EVERY_MS } from './backfill/retention.ts';
import { sampleCoverage } from './backfill/sample-coverage.ts';
import { sweep } from './backfill/sweep.ts';
import { watchedAmong, watchTargets } from './backfill/watch.ts';
import { type Config, ConfigError, loadEnvFile, readConfiguration } from './config.ts';
import type { Credential } from './core/credential.ts';
import { pacingRules } from './core/pacing-rules.ts';
import type { Target } from './core/target.ts';
import { createKeyring } from './credentials/keyring.ts';
import { openDatabase } from './db/client.ts';
import { createInspector } from './db/inspector.ts';
import { openLane } from './db/lane.ts';
import { findPooling } from './db/pooler.ts';
import { checkSchema } from './db/schema-check.ts';
import { buildHealthServer } from './http/health.ts';
import { createRegistry } from './http/metrics.ts';
import { createRedisCheck, waitForOwnRedis } from './http/redis-check.ts';
import { createLog, type Log } from './log.ts';
import { createOpenAiEmbedder, trialRequest } from './openai/embedder.ts';
import { countTokens, truncateToTokens } from './openai/tokens.ts';
import { createPacer } from './pacing/pacer.ts';
import { createPaidTexts } from './pacing/paid-texts.ts';
import { ANNOUNCE_EVERY_MS, announceSlots } from './pacing/worker-slots.ts';
import { closeQueues, openQueues } from './queue/enqueue.ts';
import { openRedis } from './queue/redis.ts';
import { RedisOwnedByOther } from './queue/redis-owner.ts';
import { type Closeable, onSignals } from './shutdown.ts';
import { createGate } from './workers/gate.ts';
import { PROBE_EVERY_MS, probeKeys } from './workers/key-probe.ts';
import { createWorkerMetrics, type WorkerMetrics } from './workers/metrics.ts';
import { createProgressReporter } from './workers/progress.ts';
import { startWorkers } from './workers/start.ts';
import { startTimer } from './workers/timer.ts';
import { deliverEvents } from './workers/webhook.ts';
import { createWindow } from './workers/window.ts';

/** Of the grace; after it the batches in hand hand their work back instead of finishing it. */
const FINISH_SHARE_OF_GRACE = 0.6;
/** How long a start waits for Redis before it says that it has started all the same. */
const OWNER_WAIT_MS = 2_000;
/** Connections beyond one a batch: planning, the sweep, health. */
const SPARE_CONNECTIONS = 4;
const CONNECTIONS_MAX = 20;
/** How often a worker sees whether a watched target is due. */
const WATCH_TICK_MS = 500;
/** How often a worker sees whether a sample of coverage is due. */
const SAMPLE_TICK_MS = 60_000;

async function main(): Promise<void> {
  loadEnvFile(process.env);
  const { config, targets } = readConfiguration(process.env);
  const workerId = randomUUID();
  const log = createLog({ level: config.log.level, name: 'infill-worker', secrets: config.secrets });
  const stopping = new AbortController();
  const opened: Closeable[] = [];
  onSignals({ stopping, opened, graceMs: config.shutdownGraceMs, log });

  const services = openServices(config, log, opened);
  const deps = wire(config, targets, services, log);
  const registry = createRegistry();
  const metrics = createWorkerMetrics(registry);
  const { checkRedis } = services;
  await serveHealth(config, services, { log, registry, isStopping: () => stopping.signal.aborted }, opened);

  const { db, redis, embedder } = deps;
  const { signal } = stopping;
  const every = (name: string, ms: number, work: () => Promise<unknown>) => {
    const timer = startTimer(name, ms, work, log);
    opened.push({ name, close: () => timer.close() });
  };
  // Nobody else's share of the slots shrinks because of a worker that takes nothing any more.
  let slots = config.worker.concurrency;
  const { keyPrefix } = config.redis;
  const announce = () => announceSlots(redis, workerId, signal.aborted ? 0 : slots, { keyPrefix });
  const onSlots = (now: number) => {
    slots = now;
    void announce().catch(() => undefined);
  };
  every('announce', ANNOUNCE_EVERY_MS, announce);
  // After a flush another database may have come first.
  every('redis owner', ANNOUNCE_EVERY_MS, () => checkRedis().catch(failIfOwnedByOther));
  every('sweep', config.worker.sweepEveryMs, async () =>
    metrics.healed.inc((await sweep(deps, workerId)).length),
  );
  startUpkeep(every, deps, { config, targets, workerId, metrics });
  const [first] = targets.values();
  if (first !== undefined) {
    const tryKey = async (credential: Credential) =>
      void (await embedder.embed(credential, trialRequest(first), signal));
    every('key probe', PROBE_EVERY_MS, () =>
      probeKeys(db, config.keys, { tryKey, holder: workerId, signal }),
    );
  }
  const { webhook } = config;
  if (webhook !== null) {
    const posting = { ...webhook, retryBackoffMs: config.worker.retryBackoffMs };
    every('webhook', config.worker.pollEveryMs, () => deliverEvents(db, posting, log, signal));
  }

  // No job is taken before it is known whose jobs they are.
  const working = waitForOwnRedis(checkRedis, signal).then(() => {
    if (!signal.aborted) work();
  });
  await Promise.race([working, sleep(OWNER_WAIT_MS, undefined, { ref: false })]);
  working.catch(failIfOwnedByOther);
  log.info(
    { workerId, concurrency: config.worker.concurrency, targets: [...targets.keys()] },
    'worker_started',
  );

  function work(): void {
    const workers = startWorkers({ ...deps, metrics }, { ...config.worker, onSlots });
    const close = async () => {
      void announce().catch(() => undefined);
      const handBack = setTimeout(() => workers.interrupt(), config.shutdownGraceMs * FINISH_SHARE_OF_GRACE);
      await workers.close().finally(() => clearTimeout(handBack));
    };
    opened.push({ name: 'workers', close });
  }
}

type Every = (name: string, ms: number, work: () => Promise<unknown>) => void;

/** What keeps targets complete and the record small, by itself. One worker at a time does each. */
function startUpkeep(
  every: Every,
  deps: PlanDeps,
  {
    config,
    targets,
    workerId,
    metrics,
  }: { config: Config; targets: ReadonlyMap<string, Target>; workerId: string; metrics: WorkerMetrics },
): void {
  every('run requests', config.worker.pollEveryMs, () => startRequestedRuns(deps, workerId));
  const watched = watchedAmong(targets);
  if (watched.length > 0) {
    every('watch', WATCH_TICK_MS, async () => {
      for (const look of await watchTargets(deps, watched, workerId)) metrics.looks.inc(look);
    });
  }
  const names = [...targets.keys()];
  every('samples', SAMPLE_TICK_MS, () => sampleCoverage(deps, names, workerId));
  every('retention', RETENTION_EVERY_MS, () => forgetOld(deps, { days: config.retentionDays }, workerId));
}

/** Ends the process: whatever it did on this Redis would be done to somebody else's jobs. */
function failIfOwnedByOther(error: unknown): void {
  if (error instanceof RedisOwnedByOther) fail(error);
}

type Services = ReturnType<typeof openServices>;

function openServices(config: Config, log: Log, opened: Closeable[]) {
  const connectionsMax = Math.min(CONNECTIONS_MAX, config.worker.concurrency + SPARE_CONNECTIONS);
  const pooling = findPooling(config.database.url, config.database.pooler);
  const options = { connectionsMax, applicationName: 'infill-worker', pooling };
  const database = openDatabase(config.database.url, options);
  opened.push({ name: 'postgres', close: () => database.close() });

  const lane = openLane(config.database.url, options);
  opened.push({ name: 'postgres lane', close: () => lane.close() });

  const connection = openRedis(config.redis, {
    onError: (error) => log.warn({ err: error }, 'redis_error'),
  });
  const { redis } = connection;
  const { keyPrefix } = config.redis;
  opened.push({ name: 'redis', close: async () => redis.disconnect() });

  const queues = openQueues(redis, keyPrefix);
  opened.push({ name: 'queues', close: () => closeQueues(queues) });

  // As many again while slots are lent out.
  const embedder = createOpenAiEmbedder({ connectionsMax: 2 * config.worker.concurrency, own: config.keys });
  opened.push({ name: 'embedder', close: () => embedder.close() });
  const checkRedis = createRedisCheck(connection, { db: database.db, keyPrefix });
  return { database, lane, redis, checkRedis, queues, embedder };
}

/** The parts list: what the story needs, made by hand. */
function wire(
  config: Config,
  targets: ReadonlyMap<string, Target>,
  { database, lane, redis, queues, embedder }: Services,
  log: Log,
) {
  const { db } = database;
  const { keyPrefix } = config.redis;
  const keyring = createKeyring(db, config.keys);
  const writes = new CarefulWrites();
  return {
    db,
    lane,
    redis,
    keyPrefix,
    queues,
    embedder,
    keyring,
    writes,
    log,
    inspect: createInspector(db, targets),
    windowOf: createWindow({ db, redis, keyPrefix, keyring, windowStart: config.worker.tenantWindow }),
    gate: createGate({ db, writes, replicationLagMaxMs: config.replicationLagMaxMs }),
    announcesEnds: config.webhook !== null,
    pacer: createPacer(redis, {
      keyPrefix,
      rules: { ...pacingRules(config.pacing.startFraction), ...config.breaker },
    }),
    paidTexts: createPaidTexts(redis, config.vectorCacheSize, keyPrefix),
    keyGate: new KeyGate(),
    longWaits: new LongWaits(),
    tokenizer: { countTokens, truncateToTokens },
    progress: createProgressReporter(db, queues),
  };
}

async function serveHealth(
  config: Config,
  { database, checkRedis }: Services,
  deps: { log: Log; registry: Registry; isStopping: () => boolean },
  opened: Closeable[],
): Promise<void> {
  const checks = [
    { name: 'postgres', check: () => checkSchema(database.db) },
    { name: 'redis', check: checkRedis },
  ];
  const health = await buildHealthServer({ ...deps, checks });
  await health.listen({ host: config.http.host, port: config.http.workerPort });
  opened.push({ name: 'health server', close: () => health.close() });
}

function fail(error: unknown): never {
  const isPlain = error instanceof ConfigError || error instanceof RedisOwnedByOther;
  process.stderr.write(`${isPlain ? wordsOf(error) : (error as Error).stack}\n`);
  process.exit(1);
}

function wordsOf(error: Error): string {
  return error instanceof RedisOwnedByOther ? `Redis is not usable: ${error.message}` : error.message;
}

main().catch(fail);
