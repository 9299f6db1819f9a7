import { shareLimit } from '../core/allowance.ts';
import type { CheckedTarget } from '../db/catalog.ts';
import { keepQuarantined } from '../db/quarantine.ts';
import { listOpenTenants, listUnsettledTenants, planTenants } from '../db/run-tenants.ts';
import { moveRun, type RunRecord, readRun, recordPlan } from '../db/runs.ts';
import { countCoverage, countWork, listTenantsWithGaps } from '../db/target-rows.ts';
import { enqueueTenants } from '../queue/enqueue.ts';
import type { PlanRun } from '../queue/jobs.ts';
import type { PlanDeps } from './deps.ts';
import { failRun, hasBatchInHand, orFail, settleStopped } from './settle.ts';

/** Tenants counted and enqueued at a time: one statement of bounded length, one call to Redis. */
const TENANTS_AT_ONCE = 500;

/** How often a run that stops, or begins anew, looks whether the batches in hand have ended, in milliseconds. */
const STOP_POLL_MS = 300;

export type PlanOutcome =
  /** The tenants' jobs are enqueued: the run's job waits for them. */
  | { readonly kind: 'planned' }
  | { readonly kind: 'ended'; readonly as: 'stale' | 'settled' }
  | { readonly kind: 'again'; readonly inMs: number };

/**
 * Plans a run from the rows: finds the tenants with work and enqueues a job for each.
 *
 * The one way on after every interruption: resume, retry and recovery call it with the next generation. Safe to repeat
 * within a generation. A run that is to pause or to cancel comes here too, and stops as soon as no batch is in hand; one
 * that goes on waits for those of older generations.
 */
export async function planRun(deps: PlanDeps, { runId, generation }: PlanRun): Promise<PlanOutcome> {
  const run = await readRun(deps.db, runId);
  if (run === undefined || run.generation !== generation) return { kind: 'ended', as: 'stale' };
  if (run.status === 'cancelling' || run.status === 'pausing') {
    const stopped = await settleStopped(deps, run);
    return stopped ? { kind: 'ended', as: 'settled' } : { kind: 'again', inMs: STOP_POLL_MS };
  }
  if (run.status === 'queued') {
    // Somebody was quicker: what the run is now decides.
    if (!(await moveRun(deps.db, runId, 'running', { generation })))
      return planRun(deps, { runId, generation });
  } else if (run.status !== 'running') return { kind: 'ended', as: 'stale' };

  // What the generation before has in hand is paid for and about to be written: planned now, it would be paid for again.
  if (await hasBatchInHand(deps, run, generation)) return { kind: 'again', inMs: STOP_POLL_MS };

  const state = await deps.inspect(run.target);
  if (state?.kind !== 'ready') {
    await failRun(deps, run, state?.detail ?? `Target "${run.target}" is not in the targets file.`);
    return { kind: 'ended', as: 'settled' };
  }
  if (!state.target.hasMissingIndex) {
    deps.log.warn({ runId, target: run.target, ddl: state.target.missingIndexDdl }, 'missing_index_absent');
  }

  const { target } = state;
  if ((await orFail(deps, run, () => planWork(deps, run, target))) === 'failed')
    return { kind: 'ended', as: 'settled' };
  const tenants = await listUnsettledTenants(deps.db, runId, generation);
  await enqueueTenants(
    deps.queues,
    tenants.map((tenantId) => ({ runId, generation, tenantId })),
  );
  deps.log.info({ runId, generation, tenants: tenants.length }, 'run_planned');
  return { kind: 'planned' };
}

async function planWork(deps: PlanDeps, run: RunRecord, target: CheckedTarget): Promise<void> {
  const coverage = await countCoverage(deps.db, target, run.tenantIds);
  const work = await findWork(deps, run, target);
  // A dry run leaves its rows missing, and a limited run stops before they are through: what was done before counts.
  const limit = run.rowLimit === null ? null : Math.max(0, run.rowLimit - run.embedded);
  const shares = shareLimit(
    work.map((tenant) => tenant.rows),
    limit,
  );
  const tenants = work.map((tenant, index) => ({ ...tenant, allowance: shares[index] ?? null }));
  const withShare = tenants.filter((tenant) => tenant.allowance !== 0);
  // Tenants that an earlier generation did not bring to a good end, and that have nothing left by now, are recounted too.
  const planned = new Set(withShare.map((tenant) => tenant.tenantId));
  const open = await listOpenTenants(deps.db, run.runId);
  const recounted = open.filter((id) => !planned.has(id) && (run.planTenantIds?.includes(id) ?? true));
  withShare.push(
    ...recounted.map((tenantId) => ({ tenantId, rows: 0, allowance: limit === null ? null : 0 })),
  );

  for (let start = 0; start < withShare.length; start += TENANTS_AT_ONCE) {
    const some = withShare.slice(start, start + TENANTS_AT_ONCE);
    await planTenants(deps.db, run, some);
    const again = some.map(({ tenantId }) => tenantId);
    if (run.generation > 1) await keepQuarantined(deps.db, target, run, again);
  }
  const plannedRows = withShare.reduce(
    (sum, { rows, allowance }) => sum + Math.min(rows, allowance ?? rows),
    0,
  );
  await recordPlan(deps.db, run, { planned: plannedRows, coverage });
}

async function findWork(
  deps: PlanDeps,
  run: RunRecord,
  target: CheckedTarget,
): Promise<{ tenantId: string; rows: number }[]> {
  const tenantIds = await listTenantsWithGaps(deps.db, target, run.planTenantIds ?? run.tenantIds);
  const work: { tenantId: string; rows: number }[] = [];
  for (let start = 0; start < tenantIds.length; start += TENANTS_AT_ONCE) {
    work.push(...(await countWork(deps.db, target, tenantIds.slice(start, start + TENANTS_AT_ONCE))));
  }
  return work;
}
