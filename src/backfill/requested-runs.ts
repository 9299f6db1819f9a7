/** Starts the runs that were asked for in SQL, by `infill.request_backfill`. */
import { tenantIdAs } from '../core/tenant-id.ts';
import { recordAudit } from '../db/audit.ts';
import { resumeWithinBudgets } from '../db/budgets.ts';
import type { CheckedTarget } from '../db/catalog.ts';
import type { Db } from '../db/client.ts';
import { releaseLease, takeLease } from '../db/leases.ts';
import { lockUnbegunRun } from '../db/own-runs.ts';
import {
  listRequestedTargets,
  markStarted,
  type RunRequestRow,
  refuseRequests,
  takeRequests,
} from '../db/run-requests.ts';
import { enqueueRun } from '../queue/enqueue.ts';
import type { PlanDeps } from './deps.ts';
import { insertOwnRun } from './start-run.ts';

/** A process that dies keeps the others from their turn for so long. Two at a time would be safe. */
const LEASE_MS = 10_000;
/** Requests that one run serves at most: its list of tenants stays bounded. The rest wait for the next run. */
const REQUESTS_AT_ONCE = 1_000;
/** Names in one audit event. */
const NAMED_MAX = 20;
const ACTOR = 'request_backfill';

/**
 * Starts a run for each target that requests wait for, and says which run serves them. Requests wait while their target has an
 * unsettled run, unless that one has not begun and is for all rows: then it serves them.
 *
 * A request for a target that this worker does not know, or whose table is not as described, is refused in words. Workers of a
 * newer configuration may be on their way, so that one that knows the target takes it up within a day.
 *
 * Tenants that their budget had stopped and that may spend again are asked for here, too.
 *
 * Returns the ids of the runs it started; an empty list also while another process is at it. Safe to repeat.
 */
export async function startRequestedRuns(deps: PlanDeps, holder: string): Promise<string[]> {
  await resumeWithinBudgets(deps.db);
  const names = await listRequestedTargets(deps.db);
  if (names.length === 0) return [];
  const lease = { name: 'run requests', holder };
  if (!(await takeLease(deps.db, { ...lease, ttlMs: LEASE_MS }))) return [];
  try {
    const started: string[] = [];
    for (const name of names) {
      const state = await deps.inspect(name);
      if (state?.kind === 'ready') {
        const runId = await startRequested(deps, state.target);
        if (runId !== undefined) started.push(runId);
      } else {
        await refuse(deps.db, name, {
          reason: state?.detail ?? `Target "${name}" is not in the targets file of the worker that looked.`,
          isFinal: false,
        });
      }
    }
    return started;
  } finally {
    await releaseLease(deps.db, lease);
  }
}

async function startRequested(deps: PlanDeps, target: CheckedTarget): Promise<string | undefined> {
  const runId = await deps.db.transaction(async (transaction) => {
    const tx = transaction as unknown as Db;
    const requests = await takeRequests(tx, target.name, REQUESTS_AT_ONCE);
    const good = await refuseStrangers(tx, target, requests);
    if (good.length === 0) return undefined;
    const requestIds = good.map(({ requestId }) => requestId);

    const unbegun = await lockUnbegunRun(tx, target.name);
    if (unbegun !== undefined) {
      await markStarted(tx, requestIds, unbegun);
      return undefined;
    }
    const requestedBy = [...new Set(good.map((request) => request.requestedBy))].slice(0, NAMED_MAX);
    const started = await insertOwnRun(
      tx,
      { target: target.name, tenantIds: tenantsOf(target, good) },
      { actor: ACTOR, origin: 'sql', details: { requests: good.length, requestedBy } },
    );
    if (started !== undefined) await markStarted(tx, requestIds, started);
    return started;
  });
  if (runId === undefined) return undefined;
  deps.log.info({ runId, target: target.name }, 'requested_run_started');
  // The requests have their run now: when Redis does not take its job, the sweep sees to it.
  await enqueueRun(deps.queues, { runId, generation: 1 }, target.name);
  return runId;
}

/** The tenants that the requests name, as the table spells them; null when one of them is for all. */
function tenantsOf(target: CheckedTarget, requests: readonly RunRequestRow[]): string[] | null {
  const tenantIds = requests.map(({ tenantId }) =>
    tenantId === null ? null : (tenantIdAs(target.tenantType, tenantId) ?? null),
  );
  return tenantIds.includes(null) ? null : [...new Set(tenantIds as string[])];
}

/** Refuses the requests whose tenant the table cannot hold. Returns the others. */
async function refuseStrangers(
  tx: Db,
  target: CheckedTarget,
  requests: readonly RunRequestRow[],
): Promise<RunRequestRow[]> {
  const isStranger = ({ tenantId }: RunRequestRow) =>
    tenantId !== null && tenantIdAs(target.tenantType, tenantId) === undefined;
  const strangers = requests.filter(isStranger);
  if (strangers.length > 0) {
    const expected =
      target.tenantType === null
        ? `Target "${target.name}" has no tenant column: leave the tenant out.`
        : `Target "${target.name}" has tenants of type ${target.tenantType}: the tenant is not one.`;
    await refuse(tx, target.name, {
      reason: expected,
      isFinal: true,
      requestIds: strangers.map(({ requestId }) => requestId),
    });
  }
  return requests.filter((request) => !isStranger(request));
}

async function refuse(
  db: Db,
  target: string,
  refusal: { reason: string; isFinal: boolean; requestIds?: string[] },
): Promise<void> {
  const refused = await refuseRequests(db, target, refusal);
  if (refused.length === 0) return;
  await recordAudit(db, {
    actor: ACTOR,
    action: 'run_request.refused',
    subject: target,
    details: {
      reason: refusal.reason,
      requests: refused.length,
      requestIds: refused.slice(0, NAMED_MAX),
    },
  });
}
