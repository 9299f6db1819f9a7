/** Finds unsettled runs that nobody works on, and plans them again. */

import { recordAudit } from '../db/audit.ts';
import { endStalledTransactions } from '../db/database-health.ts';
import { releaseLease, takeLease } from '../db/leases.ts';
import { listUnsettledTenants, type RunTenantKey, readRunTenant } from '../db/run-tenants.ts';
import { listUnsettledRuns, nextGeneration, type RunRecord } from '../db/runs.ts';
import { enqueueRun } from '../queue/enqueue.ts';
import { planRunId, planTenantId, runBatchId } from '../queue/jobs.ts';
import type { PlanDeps } from './deps.ts';

/**
 * A sweep that takes longer than this may be joined by another: both are safe. A process that dies in its sweep keeps all
 * others from theirs for so long, and a run must not lie about for 30 s.
 */
const LEASE_MS = 10_000;
/** A process of ours that leaves a transaction alone for so long is frozen, or gone without a word. */
const STALLED_MS = 10_000;
/** A run is left alone for so long after it was inserted: its job is on the way. */
const YOUNG_MS = 5_000;

const LIVE_STATES = ['waiting', 'active', 'delayed', 'prioritized', 'wait'];

/**
 * Plans again every unsettled run whose present generation has no live job: Redis was lost, a process died between the two
 * systems, or somebody removed jobs by hand.
 *
 * Returns the ids of the runs it healed; an empty list also when another process is sweeping. Safe to repeat: a healed run
 * has a live job.
 */
export async function sweep(deps: PlanDeps, holder: string, youngMs = YOUNG_MS): Promise<string[]> {
  // First of all, and not under the lease: that one may be what a frozen process keeps.
  const ended = await endStalledTransactions(deps.db, STALLED_MS);
  if (ended > 0) deps.log.warn({ ended }, 'stalled_transactions_ended');
  const lease = { name: 'sweep', holder };
  if (!(await takeLease(deps.db, { ...lease, ttlMs: LEASE_MS }))) return [];
  try {
    const healed: string[] = [];
    for (const run of await listUnsettledRuns(deps.db)) {
      const isYoung = run.ageMs < youngMs;
      // Asked twice: between two looks a parent may have woken and its children gone.
      if (run.status === 'paused' || isYoung || (await isLive(deps, run)) || (await isLive(deps, run)))
        continue;
      if (await heal(deps, run)) healed.push(run.runId);
    }
    return healed;
  } finally {
    await releaseLease(deps.db, lease);
  }
}

async function heal(deps: PlanDeps, run: RunRecord): Promise<boolean> {
  const { runId, status, generation: dead } = run;
  const generation = await nextGeneration(deps.db, runId, { statuses: [status], generation: dead });
  if (generation === undefined) return false;
  await recordAudit(deps.db, {
    actor: 'sweep',
    action: 'run.healed',
    runId,
    subject: run.target,
    details: { status, generation },
  });
  await enqueueRun(deps.queues, { runId, generation }, run.target);
  deps.log.warn({ runId, generation, status }, 'run_healed');
  return true;
}

async function isLive(deps: PlanDeps, run: RunRecord): Promise<boolean> {
  const state = await deps.queues.runs.getJobState(planRunId(run));
  if (state !== 'waiting-children') return LIVE_STATES.includes(state);
  const unsettled = await listUnsettledTenants(deps.db, run.runId, run.generation);
  for (const tenantId of unsettled) {
    if (await isTenantDead(deps, { ...run, tenantId })) return false;
  }
  if (unsettled.length > 0) return true;
  // All tenants are settled: their jobs' ends wake the run's job, unless one of them is gone.
  const job = await deps.queues.runs.getJob(planRunId(run));
  if (job === undefined) return false;
  return (await hasLiveChild(job, deps.queues.tenants)) || (await hasLiveChild(job, deps.queues.batches));
}

/**
 * Whether a tenant that was unsettled a moment ago will not move any more.
 *
 * With many tenants that moment is seconds ago: it may have settled since, or a batch may have ended between two questions
 * and admitted the next. So only a tenant counts that is found dead twice and unsettled still.
 */
async function isTenantDead(deps: PlanDeps, key: RunTenantKey): Promise<boolean> {
  for (let look = 1; look <= 2; look++) {
    if (await isTenantLive(deps, key)) return false;
    const part = await readRunTenant(deps.db, key.runId, key.tenantId);
    const isUnsettled = part?.status === 'queued' || part?.status === 'running';
    if (!isUnsettled || part.generation !== key.generation) return false;
  }
  return true;
}

async function isTenantLive({ queues }: PlanDeps, key: RunTenantKey): Promise<boolean> {
  const job = await queues.tenants.getJob(planTenantId(key));
  // A tenant whose one batch was admitted with the plan has no job of its own before that batch has ended.
  if (job === undefined) {
    return LIVE_STATES.includes(await queues.batches.getJobState(runBatchId({ ...key, sequence: 1 })));
  }
  const state = await job.getState();
  if (state !== 'waiting-children') return LIVE_STATES.includes(state);
  return hasLiveChild(job, queues.batches);
}

type Job = NonNullable<Awaited<ReturnType<PlanDeps['queues']['runs']['getJob']>>>;

/** Looks at up to this many of a job's children that have not ended. */
const CHILDREN_MAX = 2_000;

async function hasLiveChild(job: Job, queue: PlanDeps['queues']['runs']): Promise<boolean> {
  const { unprocessed } = await job.getDependencies({ unprocessed: { count: CHILDREN_MAX } });
  for (const key of unprocessed ?? []) {
    const state = await queue.getJobState(key.slice(key.lastIndexOf(':') + 1));
    if (LIVE_STATES.includes(state) || state === 'waiting-children') return true;
  }
  return false;
}
