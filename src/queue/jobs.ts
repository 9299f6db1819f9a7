/**
 * Every job in the system: its queue, payload, id and options.
 *
 * Payloads hold keys only: no text, no vector, no API key. The database is the record, and what is read late is fresh.
 */
import { createHash } from 'node:crypto';
import type { JobsOptions } from 'bullmq';
import { z } from 'zod';

/** The three queues, in the order of the story. BullMQ refuses names that hold a colon. */
export const QUEUES = {
  runs: 'backfill-runs',
  tenants: 'backfill-tenants',
  batches: 'backfill-batches',
} as const;

export type QueueName = (typeof QUEUES)[keyof typeof QUEUES];

/** Raised when a payload changes its meaning. A worker leaves jobs of a version that it does not know alone. */
export const PAYLOAD_VERSION = 1;
/** Of batches that settle their tenant: a worker that does not know this would leave the tenant unsettled. */
const WHOLE_VERSION = 2;

/** Stacks of errors that stay with a job: the last ones. Each attempt adds its own. */
const STACK_TRACES_MAX = 2;

/** How long ended jobs stay to be looked at on Bull Board. Postgres has the record; memory is what bounds this. */
const KEEP_ENDED = { age: 24 * 3_600, count: 1_000 } as const;

/** A batch's failures that may be its own fault, before its rows are given up. */
export const BATCH_ATTEMPTS_MAX = 8;
/** The workers' own backoff, with full jitter: BullMQ's keeps what failed together close together. */
export const BATCH_BACKOFF = 'full-jitter';
/** The longest pause between two attempts, in first pauses. With 1 s, eight attempts are over within two minutes, one on average. */
export const BATCH_BACKOFF_FACTOR_MAX = 30;

const Version = z.literal(PAYLOAD_VERSION);

export const PlanRunPayload = z.object({
  v: Version,
  runId: z.uuid(),
  generation: z.int().min(1),
  /** `plan` until the tenants' jobs are enqueued, then `settle`: the job runs again when they have ended. */
  step: z.enum(['plan', 'settle']),
});
export const PlanTenantPayload = z.object({
  v: Version,
  runId: z.uuid(),
  generation: z.int().min(1),
  // A tenant's id can be anything that the column holds, also nothing.
  tenantId: z.string(),
});
export const RunBatchPayload = z.object({
  v: z.literal([PAYLOAD_VERSION, WHOLE_VERSION]),
  runId: z.uuid(),
  generation: z.int().min(1),
  tenantId: z.string(),
  /** Its target. Absent in jobs of versions before it was added. */
  target: z.string().optional(),
  sequence: z.int().min(1),
  /** The rows between these, as many as there were when the range was claimed. */
  afterId: z.string().nullable(),
  throughId: z.string(),
  rows: z.int().min(1),
  /** Whether it is all that its tenant has: it then settles the tenant, which has no job. */
  isWhole: z.boolean().optional(),
  /** Whether its run goes over rows that have an embedding and no stamp. */
  includeUnverified: z.boolean().optional(),
});

export type PlanRun = Omit<z.infer<typeof PlanRunPayload>, 'v' | 'step'>;
export type PlanTenant = Omit<z.infer<typeof PlanTenantPayload>, 'v'>;
export type RunBatch = Omit<z.infer<typeof RunBatchPayload>, 'v'>;

export type JobSpec = {
  readonly name: string;
  readonly data: object;
  readonly opts: JobsOptions & { jobId: string };
};

/** Tries of a plan or settle step: its failures are the database's or Redis', and pass. The sweep follows after them. */
const PLAN_OPTIONS: JobsOptions = {
  attempts: 10,
  backoff: { type: 'exponential', delay: 500, jitter: 0.5 },
  stackTraceLimit: STACK_TRACES_MAX,
  removeOnComplete: KEEP_ENDED,
  removeOnFail: KEEP_ENDED,
};

// One job per key: adding it again is ignored, so that every enqueue can be repeated. BullMQ refuses ids that hold a colon
// or only digits; a tenant's id can hold anything, hence the hash.
export const planRunId = ({ runId, generation }: PlanRun) => `run-${runId}-g${generation}`;
export const planTenantId = ({ runId, generation, tenantId }: PlanTenant) =>
  `tenant-${runId}-g${generation}-${shortHash(tenantId)}`;
export const runBatchId = (key: PlanTenant & { sequence: number }) =>
  `batch-${key.runId}-g${key.generation}-${shortHash(key.tenantId)}-${key.sequence}`;

/** Names carry what the flow view of Bull Board shows of a job: the target, the tenant. */
export function planRunJob(run: PlanRun, target: string): JobSpec {
  return {
    name: `run ${target}`,
    data: { v: PAYLOAD_VERSION, ...run, step: 'plan' },
    opts: { ...PLAN_OPTIONS, jobId: planRunId(run) },
  };
}

export function planTenantJob(tenant: PlanTenant): JobSpec {
  return {
    name: `tenant ${tenant.tenantId}`,
    data: { v: PAYLOAD_VERSION, ...tenant },
    opts: { ...PLAN_OPTIONS, jobId: planTenantId(tenant), ignoreDependencyOnFailure: true },
  };
}

export function runBatchJob(batch: RunBatch): JobSpec {
  return {
    name: `batch ${batch.tenantId} #${batch.sequence}`,
    data: { v: batch.isWhole ? WHOLE_VERSION : PAYLOAD_VERSION, ...batch },
    opts: {
      jobId: runBatchId(batch),
      attempts: BATCH_ATTEMPTS_MAX,
      backoff: { type: BATCH_BACKOFF },
      stackTraceLimit: STACK_TRACES_MAX,
      removeOnComplete: KEEP_ENDED,
      removeOnFail: KEEP_ENDED,
      ignoreDependencyOnFailure: true,
    },
  };
}

/** 128 bits of the SHA-256, hex. */
function shortHash(value: string): string {
  return createHash('sha256').update(value).digest('hex').slice(0, 32);
}
