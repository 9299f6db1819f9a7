/** How a tenant's part, and then the run, come to their end: by a recount. */
import { budgetReached } from '../core/budget.ts';
import { FAILURES, type FailureCode } from '../core/failures.ts';
import type { SettledStatus } from '../core/run.ts';
import { databaseRefusal } from '../core/service-trouble.ts';
import { runReason, settlementOf, TENANTS_NAMED_MAX } from '../core/settlement.ts';
import { recordAudit } from '../db/audit.ts';
import { readBudget, recordBudgetStop } from '../db/budgets.ts';
import type { CheckedTarget } from '../db/catalog.ts';
import type { Db } from '../db/client.ts';
import { countCoverage } from '../db/coverage.ts';
import { idsSeen, listFailureCodes } from '../db/run-batches.ts';
import { type RunHead, readRunHead } from '../db/run-head.ts';
import {
  type RunTenantKey,
  readRunTenant,
  readTenantEnds,
  settleTenant,
  settleTenants,
} from '../db/run-tenants.ts';
import { moveRun, settleRun } from '../db/runs.ts';
import type { StoredCoverage } from '../db/schema.ts';
import {
  countGaps,
  countQuarantinedOfRun,
  countTenantGaps,
  countTenantWork,
  countWithoutTenant,
  type Gaps,
} from '../db/target-rows.ts';
import type { PlanRun } from '../queue/jobs.ts';
import { capReached } from './caps.ts';
import { type PlanDeps, readyTarget, targetForRun } from './deps.ts';

export type TenantEnd = { readonly status: 'succeeded' | 'incomplete'; readonly reason: string | null };

/** Recounts a tenant's rows and settles its part. A part that was settled before keeps its status and reason. */
export async function finishTenant(
  deps: PlanDeps,
  run: RunHead,
  key: RunTenantKey,
  target: CheckedTarget,
): Promise<TenantEnd> {
  const gaps = await countTenantGaps(deps.db, target, key.tenantId);
  const part = await readRunTenant(deps.db, key.runId, key.tenantId);
  const cap = (await capReached(deps, run)) ?? (await stoppedByBudget(deps, run, key.tenantId, gaps.missing));
  const end = settlementOf({
    dryRun: run.dryRun,
    ...gaps,
    failed: part?.failed ?? 0,
    quarantinedNow: part?.quarantined ?? 0,
    overLimit: part?.allowance === 0,
    failureCodes: await listFailureCodes(deps.db, key),
    cap,
    unseen:
      run.dryRun && cap !== null ? await countTenantWork(deps.db, target, key.tenantId, idsSeen(key)) : 0,
  });
  const settled = await settleTenant(deps.db, key, {
    ...end,
    remaining: gaps.missing + gaps.quarantined,
  });
  const before = {
    status: part?.status === 'succeeded' ? 'succeeded' : 'incomplete',
    reason: part?.reason ?? null,
  } as const;
  const { status, reason } = settled ? end : before;
  deps.log.info({ ...key, status, reason, ...gaps }, 'tenant_settled');
  return { status, reason };
}

/** Why a tenant's budget keeps rows from being filled, if it does. A run follows by itself when it may spend again. */
async function stoppedByBudget(
  { db }: PlanDeps,
  run: RunHead,
  tenantId: string,
  missing: number,
): Promise<string | null> {
  const budget = missing === 0 ? undefined : await readBudget(db, tenantId);
  const reason = budget === undefined ? null : budgetReached(budget);
  if (reason !== null && !run.dryRun) await recordBudgetStop(db, tenantId, run.target);
  return reason;
}

/** Ends a tenant's part at once: nothing more of it will succeed until a person acts. Its waiting batches end unworked. */
export async function stopTenant(
  deps: PlanDeps,
  key: RunTenantKey,
  failure: { readonly code: FailureCode; readonly providerMessage?: string | undefined },
): Promise<void> {
  const { code } = failure;
  const reason = `${code}: ${FAILURES[code].because}${wordsOf(failure)}`;
  const stopped = await settleTenant(deps.db, key, { status: 'incomplete', reason, remaining: null });
  if (stopped) deps.log.warn({ ...key, code }, 'tenant_stopped');
}

/** Enough to understand a reason; the run's names several tenants. */
const WORDS_LENGTH_MAX = 300;

/** What the provider said, for a reason that people read; its texts and keys were masked where it was received. */
function wordsOf({ providerMessage }: { readonly providerMessage?: string | undefined }): string {
  const words = providerMessage?.replaceAll(/\s+/g, ' ').trim() ?? '';
  return words === '' ? '' : `. The provider said: ${words.slice(0, WORDS_LENGTH_MAX)}`;
}

/**
 * Settles a run whose tenants' jobs have all ended, by a recount in the database.
 *
 * Safe to repeat: the first call of a generation settles, later ones find it settled and do nothing. A run that is to stop
 * stops here.
 */
export async function settleFinishedRun(
  deps: PlanDeps,
  { runId, generation }: PlanRun,
): Promise<'settled' | 'stale' | 'stopping'> {
  const run = await readRunHead(deps.db, runId);
  if (run === undefined || run.generation !== generation) return 'stale';
  if (run.status === 'cancelling' || run.status === 'pausing') {
    return (await settleStopped(deps, run)) ? 'settled' : 'stopping';
  }
  if (run.status !== 'running') return 'stale';

  await orFail(deps, run, async () => {
    const target = targetForRun(await readyTarget(deps, run.target), run);
    // A tenant's job that ended without settling its part failed for good; its rows are as they were.
    await settleTenants(deps.db, run, 'incomplete', JOB_FAILED);
    const coverage = run.origin === 'watch' ? null : await countCoverage(deps.db, target, run.tenantIds);
    const gaps = coverage ?? (await countGaps(deps.db, target));
    const ending = await endingOf(deps, run, target, gaps);
    await settle(deps, run, ending.status, { reason: ending.reason, gaps, coverage });
  });
  return 'settled';
}

async function endingOf(
  deps: PlanDeps,
  run: RunHead,
  target: CheckedTarget,
  coverage: Gaps,
): Promise<{ status: 'succeeded' | 'incomplete'; reason: string | null }> {
  const { tenants, short, remaining } = await readTenantEnds(deps.db, run.runId, TENANTS_NAMED_MAX);
  const left = coverage.missing + coverage.quarantined;
  if (short === 0 && left === 0) return { status: 'succeeded', reason: null };

  const counted = remaining;
  const nobodys = run.tenantIds === null ? await countWithoutTenant(deps.db, target) : 0;
  const others: string[] = [];
  if (nobodys > 0)
    others.push(nobodys === 1 ? '1 missing row has no tenant' : `${nobodys} missing rows have no tenant`);
  const rest = left - counted - nobodys;
  if (rest > 0) {
    const quarantined = Math.min(rest, await countQuarantinedElsewhere(deps, target, coverage, run.runId));
    if (quarantined > 0)
      others.push(quarantined === 1 ? '1 row is quarantined' : `${quarantined} rows are quarantined`);
    // Nor does a dry run fill those it has planned: what its limit left out is not what it fell short of.
    const unplanned = run.dryRun ? 0 : rest - quarantined;
    if (unplanned > 0)
      others.push(
        unplanned === 1
          ? '1 more missing row belongs to a tenant that the run did not plan'
          : `${unplanned} more missing rows belong to tenants that the run did not plan`,
      );
  }
  if (short === 0 && others.length === 0) return { status: 'succeeded', reason: null };
  return { status: 'incomplete', reason: runReason(tenants, short, others) };
}

/** Quarantined rows of tenants that had no work for this run: earlier runs set them aside. */
async function countQuarantinedElsewhere(
  { db }: PlanDeps,
  target: CheckedTarget,
  coverage: Gaps,
  runId: string,
): Promise<number> {
  if (coverage.quarantined === 0) return 0;
  return Math.max(0, coverage.quarantined - (await countQuarantinedOfRun(db, target, runId)));
}

/**
 * Takes a run that is to pause or to cancel to its stop, once no batch of it is in hand.
 *
 * Returns false while one is: it finishes its request and writes what was paid for.
 */
export async function settleStopped(deps: PlanDeps, run: RunHead): Promise<boolean> {
  if (await hasBatchInHand(deps, run)) return false;
  if (run.status === 'pausing') {
    await moveRun(deps.db, run.runId, 'paused', { generation: run.generation });
    deps.log.info({ runId: run.runId }, 'run_paused');
    return true;
  }
  await settle(deps, run, 'cancelled', { reason: null, ...(await coverageIfAny(deps, run)) });
  return true;
}

/** Fails a run as a whole: our request, or the target, is wrong, and no row would succeed. */
export async function failRun(deps: PlanDeps, run: RunHead, reason: string): Promise<void> {
  await settle(deps, run, 'failed', { reason, ...(await coverageIfAny(deps, run)) });
}

/**
 * Does a step of a run, and fails the run when Postgres refuses a statement of it for good: planned again it would be
 * refused again, and an unsettled run keeps its target from every other.
 */
export async function orFail<Outcome>(
  deps: PlanDeps,
  run: RunHead,
  step: () => Promise<Outcome>,
): Promise<Outcome | 'failed'> {
  try {
    return await step();
  } catch (error) {
    const refusal = databaseRefusal(error);
    if (refusal === undefined) throw error;
    deps.log.error({ runId: run.runId, err: error }, 'run_refused');
    await failRun(deps, run, `Postgres refuses it: ${refusal.message} (${refusal.code})`);
    return 'failed';
  }
}

/** Null when the rows cannot be counted, whyever: a run must be able to stop all the same. */
async function coverageIfAny(
  deps: PlanDeps,
  run: RunHead,
): Promise<{ gaps: Gaps | null; coverage: StoredCoverage | null }> {
  const state = await deps.inspect(run.target);
  if (state?.kind !== 'ready') return { gaps: null, coverage: null };
  const coverage = await countCoverage(deps.db, state.target, run.tenantIds).catch((error: unknown) => {
    if (databaseRefusal(error) === undefined) throw error;
    return null;
  });
  return { gaps: coverage, coverage };
}

/** Why a tenant is left whose job ended without settling its part. */
const JOB_FAILED = 'its job failed for good; a retry plans it again';

/**
 * The one way to a settled status: the move, its tenants' and its terminal event in one transaction, so that there is
 * exactly one event and no tenant is left behind.
 */
async function settle(
  deps: PlanDeps,
  run: RunHead,
  status: SettledStatus,
  { reason, gaps, coverage }: { reason: string | null; gaps: Gaps | null; coverage: StoredCoverage | null },
): Promise<void> {
  const remaining = gaps === null ? null : gaps.missing + gaps.quarantined;
  // A watch ends its run every few seconds while rows arrive. What it found and filled is told as one event of the gap.
  const isQuiet = run.origin === 'watch' && (status === 'succeeded' || status === 'incomplete');
  const settled = await deps.db.transaction(async (tx) => {
    const first = await settleRun(tx as unknown as Db, run.runId, status, {
      generation: run.generation,
      reason,
      remaining,
      coverage,
    });
    if (first) {
      const isWhole = status === 'cancelled' || status === 'failed';
      await settleTenants(
        tx as unknown as Db,
        run,
        isWhole ? status : 'incomplete',
        isWhole ? reason : JOB_FAILED,
      );
      if (isQuiet) return first;
      const event = { actor: 'infill', action: `run.${status}`, runId: run.runId, subject: run.target };
      await recordAudit(tx as unknown as Db, {
        ...event,
        details: { reason, coverage },
        deliver: deps.announcesEnds,
      });
    }
    return first;
  });
  if (settled) deps.log.info({ runId: run.runId, status, reason, remaining }, 'run_settled');
}

/** Whether a batch of a run is at work, of whatever generation or of one before `generation`. */
export async function hasBatchInHand(
  { queues }: PlanDeps,
  { runId }: { runId: string },
  generation = Number.POSITIVE_INFINITY,
): Promise<boolean> {
  const active = await queues.batches.getActive();
  return active.some((job) => job?.data?.runId === runId && job.data.generation < generation);
}
