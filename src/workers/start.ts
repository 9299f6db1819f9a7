/** Starts the workers of the three queues: from a job to the story, and from the story's outcome back to the job. */
import { type Job, type Processor, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import type { Attempt } from '../backfill/batch-context.ts';
import type { BatchDeps } from '../backfill/deps.ts';
import { planRun } from '../backfill/plan-run.ts';
import { planTenant } from '../backfill/plan-tenant.ts';
import { runBatch } from '../backfill/run-batch.ts';
import { settleFinishedRun } from '../backfill/settle.ts';
import { backoffMs } from '../core/backoff.ts';
import { EmbedError } from '../core/failures.ts';
import { databaseTrouble } from '../core/service-trouble.ts';
import { SlotShares } from '../pacing/slot-shares.ts';
import {
  BATCH_BACKOFF_FACTOR_MAX,
  PAYLOAD_VERSION,
  PlanRunPayload,
  PlanTenantPayload,
  QUEUES,
  RunBatchPayload,
} from '../queue/jobs.ts';
import type { WorkerMetrics } from './metrics.ts';
import type { ProgressReporter } from './progress.ts';
import { comeAgain, failForGood, settleFailure, waitForChildren } from './verdict.ts';

export type WorkersDeps = Omit<BatchDeps, 'slotShares'> & {
  /** A connection with `maxRetriesPerRequest: null`; each worker makes a blocking copy of it. */
  readonly redis: Redis;
  /** What all keys begin with. */
  readonly keyPrefix: string;
  readonly progress: ProgressReporter;
  readonly metrics: WorkerMetrics;
};

export type Workers = {
  /** Takes no new job, and waits for the jobs in hand. */
  close(): Promise<void>;
  /** Tells the jobs in hand to hand their work back. They end at their next await. */
  interrupt(): void;
};

/** Planning is short and mostly Postgres: a few at once keep up with any number of batches. */
const PLAN_CONCURRENCY = 4;
/** After a crash a job is taken up by another worker within lock and check: 10 s + 5 s at most. */
const LOCK_MS = 10_000;
const STALLED_CHECK_MS = 5_000;
/** Crashes of a worker that a job survives. With 1, the default, the second one fails it for good. */
const STALLED_MAX = 5;
/** How long a job stays away from a database that is away or busy. */
const DATABASE_PAUSE_MS = 2_000;
/** How often a stopping run looks whether its batches in hand have ended. */
const STOPPING_POLL_MS = 300;

export type WorkersOptions = {
  /** Batches at once. */
  readonly concurrency: number;
  /** The first pause, at most, before a failed batch runs again. */
  readonly retryBackoffMs: number;
  /** How often a held tenant, or batch, checks whether it may go on. */
  readonly pollEveryMs: number;
  /** Called with the number of batches that may run at once when it changes: more while slots are lent out. */
  readonly onSlots?: (slots: number) => void;
};

export function startWorkers(deps: WorkersDeps, options: WorkersOptions): Workers {
  const stopping = new AbortController();
  const planning = { ...options, concurrency: PLAN_CONCURRENCY };
  const slotShares = new SlotShares({ slots: options.concurrency, onLent: (lent) => void lend(lent) });
  const batches = startOne(deps, QUEUES.batches, options, (job, token, signal) => {
    const either = AbortSignal.any([stopping.signal, signal]);
    return onBatchJob({ ...deps, slotShares }, job, token, either, options.pollEveryMs);
  });
  const workers = [
    startOne(deps, QUEUES.runs, planning, (job, token) => onRunJob(deps, job, token)),
    startOne(deps, QUEUES.tenants, planning, (job, token) =>
      onTenantJob(deps, job, token, options.pollEveryMs),
    ),
    batches,
  ];

  async function lend(lent: number): Promise<void> {
    const isMore = options.concurrency + lent > batches.concurrency;
    batches.concurrency = options.concurrency + lent;
    options.onSlots?.(batches.concurrency);
    // BullMQ looks at the number only when a job ends. When it resumes, it looks at once.
    if (!isMore || batches.closing !== undefined) return;
    await batches.pause(true);
    await batches.resume();
  }

  return {
    close: async () => void (await Promise.all(workers.map((worker) => worker.close()))),
    interrupt: () => stopping.abort(new EmbedError('shutting_down')),
  };
}

type Handler = (job: Job, token: string, signal: AbortSignal) => Promise<unknown>;

function startOne(
  deps: WorkersDeps,
  queue: string,
  { concurrency, retryBackoffMs }: WorkersOptions,
  handle: Handler,
): Worker {
  const backoff = { baseMs: retryBackoffMs, maxMs: BATCH_BACKOFF_FACTOR_MAX * retryBackoffMs };
  // BullMQ passes the signal only to functions that declare three parameters.
  const processor: Processor = async (
    job: Job,
    token: string | undefined,
    signal: AbortSignal | undefined,
  ) => {
    if (token === undefined || signal === undefined)
      throw new Error('BullMQ runs a job with a token and a signal');
    try {
      return await handle(job, token, signal);
    } catch (error) {
      // The database comes back by itself: waiting for it uses up no attempt.
      if (databaseTrouble(error) === undefined) throw sparing(error);
      deps.log.warn({ err: error, queue, jobId: job.id }, 'database_trouble');
      return comeAgain(job, token, DATABASE_PAUSE_MS);
    }
  };
  const worker = new Worker(queue, processor, {
    connection: deps.redis,
    prefix: deps.keyPrefix,
    concurrency,
    lockDuration: LOCK_MS,
    stalledInterval: STALLED_CHECK_MS,
    maxStalledCount: STALLED_MAX,
    settings: { backoffStrategy: (attemptsMade) => backoffMs(attemptsMade, Math.random(), backoff) },
  });
  worker.on('error', (error) => deps.log.warn({ err: error, queue }, 'worker_error'));
  worker.on('failed', (job, error) => {
    const forGood = job === undefined || job.finishedOn !== undefined;
    if (forGood) deps.log.warn({ err: error, queue, jobId: job?.id }, 'job_failed');
  });
  worker.on('stalled', (jobId) => deps.log.warn({ jobId, queue }, 'job_stalled'));
  // Another worker may have the job by now: what this one does from here on is wasted, though harmless.
  worker.on('lockRenewalFailed', (jobIds: string[]) => {
    deps.log.warn({ jobIds, queue }, 'lock_lost');
    for (const jobId of jobIds) worker.cancelJob(jobId, 'lock lost');
  });
  return worker;
}

/** An error as BullMQ may keep it in Redis and show it on the board: that of a query repeats its parameters, vectors and all. */
function sparing(error: unknown): unknown {
  if (!(error instanceof Error && 'params' in error)) return error;
  const { cause } = error;
  return new Error(`A statement failed: ${cause instanceof Error ? cause.message : 'no cause was given'}`);
}

async function onRunJob(deps: WorkersDeps, job: Job, token: string): Promise<string> {
  const payload = await knownPayload(deps, PlanRunPayload, job, token);
  if (payload.step === 'plan') {
    const outcome = await planRun(deps, payload);
    if (outcome.kind === 'again') return comeAgain(job, token, outcome.inMs);
    await deps.progress.reportSettled(payload.runId);
    if (outcome.kind === 'ended') return outcome.as;
    await job.updateData({ ...job.data, step: 'settle' });
  }
  // Also of a job that died on its way to wait: settled now, its tenants would be cut off in the middle of their work.
  await waitForChildren(job, token);
  const outcome = await settleFinishedRun(deps, payload);
  if (outcome === 'stopping') return comeAgain(job, token, STOPPING_POLL_MS);
  await deps.progress.reportSettled(payload.runId);
  return outcome;
}

async function onTenantJob(deps: WorkersDeps, job: Job, token: string, pollEveryMs: number): Promise<string> {
  const payload = await knownPayload(deps, PlanTenantPayload, job, token);
  for (;;) {
    // Also at the start: a turn that died may have admitted batches, and planning now would admit their rows again.
    await waitForChildren(job, token);
    const outcome = await planTenant(deps, payload);
    if (outcome.kind === 'left') return outcome.kind;
    if (outcome.kind === 'held') return comeAgain(job, token, pollEveryMs);
    if (outcome.kind === 'settled') {
      await deps.progress.reportSettled(payload.runId, payload.tenantId);
      // Completed is green on Bull Board: a tenant with rows left is to be seen.
      if (outcome.status === 'incomplete') failForGood(`Incomplete: ${outcome.reason ?? 'rows are left'}`);
      return outcome.status;
    }
  }
}

async function onBatchJob(
  deps: WorkersDeps & BatchDeps,
  job: Job,
  token: string,
  signal: AbortSignal,
  pollEveryMs: number,
): Promise<string> {
  const payload = await knownPayload(deps, RunBatchPayload, job, token);
  const { v: _version, ...batch } = payload;
  const attempt: Attempt = {
    number: job.attemptsMade + 1,
    isLast: job.attemptsMade + 1 >= (job.opts.attempts ?? 1),
  };
  const context = {
    runId: batch.runId,
    tenantId: batch.tenantId,
    sequence: batch.sequence,
    attempt: attempt.number,
  };
  const outcome = await runBatch(deps, batch, attempt, signal).catch((error: unknown) => {
    deps.metrics.batches.inc({ outcome: error instanceof EmbedError ? error.code : 'error' });
    deps.log.warn({ ...context, err: error }, 'batch_not_ended');
    return settleFailure(error, job, token);
  });
  if (outcome === 'held') return comeAgain(job, token, pollEveryMs);
  deps.metrics.batches.inc({ outcome });
  deps.log.info({ ...context, outcome }, 'batch_ended');
  await deps.progress.report(batch.runId, batch.tenantId);
  return outcome;
}

/** How long a job of a version that this worker does not know waits for one that does. */
const UNKNOWN_VERSION_MS = 30_000;

/** The job's data, checked. A job of another version is left to workers that know it: a deploy may be under way. */
async function knownPayload<Payload>(
  deps: WorkersDeps,
  schema: { safeParse(data: unknown): { success: true; data: Payload } | { success: false } },
  job: Job,
  token: string,
): Promise<Payload> {
  const parsed = schema.safeParse(job.data);
  if (parsed.success) return parsed.data;
  // Nobody would ever know what to do with it: the sweep plans its run again.
  if (job.data?.v === PAYLOAD_VERSION) return failForGood('The payload is not one of this version.');
  deps.log.warn({ jobId: job.id, version: job.data?.v }, 'job_of_unknown_version');
  return comeAgain(job, token, UNKNOWN_VERSION_MS);
}
