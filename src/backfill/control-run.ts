/** What an operator does to a run: cancel, pause, resume, retry. Each may be repeated. */
import { canMove, isSettled, type RunStatus } from '../core/run.ts';
import { recordAudit } from '../db/audit.ts';
import type { Db } from '../db/client.ts';
import { findUnplannedTenant } from '../db/run-tenants.ts';
import {
  isTargetTaken,
  moveRun,
  nextGeneration,
  type RunRecord,
  readRun,
  readUnsettledRun,
} from '../db/runs.ts';
import { enqueueRun } from '../queue/enqueue.ts';
import type { PlanDeps } from './deps.ts';

export type Control = 'cancel' | 'pause' | 'resume' | 'retry';

export type ControlOutcome =
  /** The run is where the operator wants it, or on its way there; `changed` is false when it was before. */
  | { readonly kind: 'accepted'; readonly run: RunRecord; readonly changed: boolean }
  | { readonly kind: 'forbidden'; readonly run: RunRecord }
  /** The target has another unsettled run. */
  | { readonly kind: 'busy'; readonly run: RunRecord }
  /** A retry names a tenant that the run is not for. */
  | { readonly kind: 'foreign'; readonly run: RunRecord; readonly tenantId: string }
  | { readonly kind: 'unknown' };

/** Where each control leads, and the statuses in which there is nothing to do for it any more. */
const CONTROLS = {
  cancel: { to: 'cancelling', done: ['cancelling', 'cancelled'], past: 'run.cancel_requested' },
  pause: { to: 'pausing', done: ['pausing', 'paused'], past: 'run.pause_requested' },
  resume: { to: 'running', done: ['running', 'queued'], past: 'run.resumed' },
  retry: { to: 'running', done: ['running', 'queued'], past: 'run.retried' },
} as const satisfies Record<Control, { to: RunStatus; done: RunStatus[]; past: string }>;

/**
 * Moves a run and plans it again: jobs of the generation before find out that they are stale. The one path of all
 * controls, since stopping is planning too: the plan of a run that is to stop waits for the batches in hand and settles.
 *
 * A retry may name the tenants it is for; while one is at work, another for other tenants is forbidden, since it would be
 * lost. When Redis does not take the job, the sweep enqueues it.
 */
export async function controlRun(
  deps: Pick<PlanDeps, 'db' | 'queues'>,
  runId: string,
  control: Control,
  { actor, tenantIds }: { actor: string; tenantIds?: readonly string[] | null },
): Promise<ControlOutcome> {
  const run = await readRun(deps.db, runId);
  if (run === undefined) return { kind: 'unknown' };
  const foreign = await findForeignTenant(deps.db, run, tenantIds ?? []);
  if (foreign !== undefined) return { kind: 'foreign', run, tenantId: foreign };
  const { to, done, past } = CONTROLS[control];
  if ((done as readonly RunStatus[]).includes(run.status)) {
    const isCovered = control !== 'retry' || isPlannedFor(run, tenantIds ?? null);
    return isCovered ? { kind: 'accepted', run, changed: false } : { kind: 'forbidden', run };
  }
  if (!isAllowed(control, run.status)) return { kind: 'forbidden', run };
  const other = isSettled(run.status) ? await readUnsettledRun(deps.db, run.target) : undefined;
  if (other !== undefined && other.runId !== runId) return { kind: 'busy', run: other };

  const moving = deps.db.transaction(async (tx) => {
    // A run that is resumed goes on with the tenants that it was planned for.
    const plan = control === 'retry' ? { planTenantIds: tenantIds ?? null } : {};
    const moved = await moveRun(tx as unknown as Db, runId, to, { generation: run.generation, ...plan });
    if (!moved) return undefined;
    await recordAudit(tx as unknown as Db, {
      actor,
      action: past,
      runId,
      subject: run.target,
      details: { from: run.status, tenantIds },
    });
    return nextGeneration(tx as unknown as Db, runId, { statuses: [to] });
  });
  const generation = await moving.catch((error: unknown) => {
    if (isTargetTaken(error)) return undefined;
    throw error;
  });
  // Somebody was quicker: what the run, or the target's other one, is now decides.
  if (generation === undefined)
    return controlRun(deps, runId, control, { actor, tenantIds: tenantIds ?? null });
  await enqueueRun(deps.queues, { runId, generation }, run.target);
  return { kind: 'accepted', run: (await readRun(deps.db, runId)) ?? run, changed: true };
}

/** A tenant that nothing of the run can be for: planned for it, the run would settle again with nothing done. */
async function findForeignTenant(
  db: Db,
  run: RunRecord,
  tenantIds: readonly string[],
): Promise<string | undefined> {
  const { tenantIds: own } = run;
  if (own !== null) return tenantIds.find((tenantId) => !own.includes(tenantId));
  // A run that ended before it was planned knows no tenants yet.
  return run.tenantsTotal === 0 ? undefined : findUnplannedTenant(db, run.runId, tenantIds);
}

/** Whether a run at work is at work for all of `tenantIds`; null: for all of its tenants. */
function isPlannedFor({ planTenantIds }: RunRecord, tenantIds: readonly string[] | null): boolean {
  if (planTenantIds === null) return true;
  return tenantIds?.every((tenantId) => planTenantIds.includes(tenantId)) ?? false;
}

/** Resume is for runs that paused, retry for runs that settled; the table of transitions does not tell them apart. */
function isAllowed(control: Control, status: RunStatus): boolean {
  if (control === 'resume' && isSettled(status)) return false;
  // Only the watch goes on with a run that succeeded.
  if (control === 'retry' && (!isSettled(status) || status === 'succeeded')) return false;
  return canMove(status, CONTROLS[control].to);
}
