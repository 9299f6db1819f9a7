/** A worker: opens, works, closes. */
import { randomUUID } from 'node:crypto';
import { Redis } from 'ioredis';
import type { Registry } from 'prom-client';
import { CarefulWrites } from './backfill/careful-writes.ts';
import { KeyGate } from './backfill/key-gate.ts';
import { LongWaits } from './backfill/long-waits.ts';
import { sweep } from './backfill/sweep.ts';
import { type Config, ConfigError, loadEnvFile, readConfiguration } from './config.ts';
import type { Credential } from './core/credential.ts';
import { pacingRules } from './core/pacing-rules.ts';
import type { Target } from './core/target.ts';
import { createKeyring } from './credentials/keyring.ts';
import { openDatabase } from './db/client.ts';
import { createInspector } from './db/inspector.ts';
import { openLane } from './db/lane.ts';
import { checkSchema } from './db/schema-check.ts';
import { buildHealthServer } from './http/health.ts';
import { createRegistry } from './http/metrics.ts';
import { createLog, type Log } from './log.ts';
import { createOpenAiEmbedder } from './openai/embedder.ts';
import { countTokens, truncateToTokens } from './openai/tokens.ts';
import { createPacer } from './pacing/pacer.ts';
import { createPaidTexts } from './pacing/paid-texts.ts';
import { ANNOUNCE_EVERY_MS, announceSlots } from './pacing/worker-slots.ts';
import { closeQueues, openQueues } from './queue/enqueue.ts';
import { type Closeable, onSignals } from './shutdown.ts';
import { createGate } from './workers/gate.ts';
import { PROBE_EVERY_MS, probeKeys } from './workers/key-probe.ts';
import { createWorkerMetrics } from './workers/metrics.ts';
import { createProgressReporter } from './workers/progress.ts';
import { startWorkers } from './workers/start.ts';
import { startTimer } from './workers/timer.ts';
import { deliverEvents } from './workers/webhook.ts';
import { createWindow } from './workers/window.ts';

/** Of the grace; after it the batches in hand hand their work back instead of finishing it. */
const FINISH_SHARE_OF_GRACE = 0.6;
/** Connections beyond one a batch: planning, the sweep, health. */
const SPARE_CONNECTIONS = 4;
const CONNECTIONS_MAX = 20;

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
  await serveHealth(config, services, { log, registry, isStopping: () => stopping.signal.aborted }, opened);

  const { db, redis, embedder } = deps;
  const { signal } = stopping;
  const every = (name: string, ms: number, work: () => Promise<unknown>) => {
    const timer = startTimer(name, ms, work, log);
    opened.push({ name, close: () => timer.close() });
  };
  // Nobody else's share of the slots shrinks because of a worker that takes nothing any more.
  let slots = config.worker.concurrency;
  const announce = () => announceSlots(redis, workerId, signal.aborted ? 0 : slots);
  const onSlots = (now: number) => {
    slots = now;
    void announce().catch(() => undefined);
  };
  every('announce', ANNOUNCE_EVERY_MS, announce);
  every('sweep', config.worker.sweepEveryMs, async () =>
    metrics.healed.inc((await sweep(deps, workerId)).length),
  );
  const [first] = targets.values();
  if (first !== undefined) {
    const { model, dimensions } = first;
    const tryKey = async (credential: Credential) =>
      void (await embedder.embed(credential, { texts: ['hello'], model, dimensions }, signal));
    every('key probe', PROBE_EVERY_MS, () =>
      probeKeys(db, config.keys, { tryKey, holder: workerId, signal }),
    );
  }
  const { webhook } = config;
  if (webhook !== null) {
    const posting = { ...webhook, retryBackoffMs: config.worker.retryBackoffMs };
    every('webhook', config.worker.pollEveryMs, () => deliverEvents(db, posting, log, signal));
  }

  const workers = startWorkers({ ...deps, metrics }, { ...config.worker, onSlots });
  opened.push({ name: 'workers', close: closeWorkers });
  log.info(
    { workerId, concurrency: config.worker.concurrency, targets: [...targets.keys()] },
    'worker_started',
  );

  async function closeWorkers(): Promise<void> {
    void announce().catch(() => undefined);
    const handBack = setTimeout(() => workers.interrupt(), config.shutdownGraceMs * FINISH_SHARE_OF_GRACE);
    await workers.close().finally(() => clearTimeout(handBack));
  }
}

type Services = ReturnType<typeof openServices>;

function openServices(config: Config, log: Log, opened: Closeable[]) {
  const connectionsMax = Math.min(CONNECTIONS_MAX, config.worker.concurrency + SPARE_CONNECTIONS);
  const database = openDatabase(config.database.url, { connectionsMax, applicationName: 'infill-worker' });
  opened.push({ name: 'postgres', close: () => database.close() });

  const lane = openLane(config.database.url, { connectionsMax, applicationName: 'infill-worker' });
  opened.push({ name: 'postgres lane', close: () => lane.close() });

  const redis = new Redis(config.redis.url, { maxRetriesPerRequest: null });
  redis.on('error', (error) => log.warn({ err: error }, 'redis_error'));
  opened.push({ name: 'redis', close: async () => redis.disconnect() });

  const queues = openQueues(redis);
  opened.push({ name: 'queues', close: () => closeQueues(queues) });

  // As many again while slots are lent out.
  const embedder = createOpenAiEmbedder({ connectionsMax: 2 * config.worker.concurrency });
  opened.push({ name: 'embedder', close: () => embedder.close() });
  return { database, lane, redis, queues, embedder };
}

/** The parts list: what the story needs, made by hand. */
function wire(
  config: Config,
  targets: ReadonlyMap<string, Target>,
  { database, lane, redis, queues, embedder }: Services,
  log: Log,
) {
  const { db } = database;
  const keyring = createKeyring(db, config.keys);
  const writes = new CarefulWrites();
  return {
    db,
    lane,
    redis,
    queues,
    embedder,
    keyring,
    writes,
    log,
    inspect: createInspector(db, targets),
    windowOf: createWindow({ db, redis, keyring, windowStart: config.worker.tenantWindow }),
    gate: createGate({ db, writes, replicationLagMaxMs: config.replicationLagMaxMs }),
    announcesEnds: config.webhook !== null,
    pacer: createPacer(redis, { rules: { ...pacingRules(config.pacing.startFraction), ...config.breaker } }),
    paidTexts: createPaidTexts(redis, config.vectorCacheSize),
    keyGate: new KeyGate(),
    longWaits: new LongWaits(),
    tokenizer: { countTokens, truncateToTokens },
    progress: createProgressReporter(db, queues),
  };
}

async function serveHealth(
  config: Config,
  { database, redis }: Services,
  deps: { log: Log; registry: Registry; isStopping: () => boolean },
  opened: Closeable[],
): Promise<void> {
  const checks = [
    { name: 'postgres', check: () => checkSchema(database.db) },
    { name: 'redis', check: () => redis.ping() },
  ];
  const health = await buildHealthServer({ ...deps, checks });
  await health.listen({ host: config.http.host, port: config.http.workerPort });
  opened.push({ name: 'health server', close: () => health.close() });
}

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof ConfigError ? error.message : (error as Error).stack}\n`);
  process.exit(1);
});
