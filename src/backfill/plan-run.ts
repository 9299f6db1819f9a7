import { setTimeout as sleep } from 'node:timers/promises';
import { shareLimit } from '../core/allowance.ts';
import { listBudgeted } from '../db/budgets.ts';
import type { CheckedTarget } from '../db/catalog.ts';
import type { Db } from '../db/client.ts';
import { countCoverage } from '../db/coverage.ts';
import { keepQuarantined } from '../db/quarantine.ts';
import { type RunHead, readRunHead } from '../db/run-head.ts';
import { listPlanned, type PlannedTenant, planTenants, recordPlannedRows } from '../db/run-plan.ts';
import { listOpenTenants } from '../db/run-tenants.ts';
import { moveRun, readRun, recordPlan } from '../db/runs.ts';
import { inSnapshot } from '../db/snapshot.ts';
import { countGaps, countWorkByTenant, countWorkUpTo, listTenantsWithGaps } from '../db/target-rows.ts';
import { enqueueBatches, enqueueTenants } from '../queue/enqueue.ts';
import type { PlanRun, RunBatch } from '../queue/jobs.ts';
import { hasCap } from './caps.ts';
import { type PlanDeps, targetForRun } from './deps.ts';
import { failRun, hasBatchInHand, orFail, settleStopped } from './settle.ts';

/** Tenants that the first page of a plan has: the first batch is to go out at once. */
const FIRST_PAGE_TENANTS = 20;
/** Tenants planned and enqueued at a time: one statement of bounded length, one call to Redis. */
const PAGE_TENANTS = 500;

/** How often a run that stops, or begins anew, looks whether the batches in hand have ended, in milliseconds. */
const STOP_POLL_MS = 300;

export type PlanOutcome =
  /** The tenants' jobs are enqueued: the run's job waits for them. */
  | { readonly kind: 'planned' }
  | { readonly kind: 'ended'; readonly as: 'stale' | 'settled' }
  | { readonly kind: 'again'; readonly inMs: number };

/**
 * Plans a run from the rows: finds the tenants with work and enqueues a job for each, page by page, so that the first batch goes
 * out while the last tenant is not found yet. The rows are counted beside that.
 *
 * The one way on after every interruption: resume, retry and recovery call it with the next generation. Safe to repeat
 * within a generation. A run that is to pause or to cancel comes here too, and stops as soon as no batch is in hand; one
 * that goes on waits for those of older generations.
 */
export async function planRun(deps: PlanDeps, { runId, generation }: PlanRun): Promise<PlanOutcome> {
  const run = await readRunHead(deps.db, runId);
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
  if (generation > 1 && (await hasBatchInHand(deps, run, generation)))
    return { kind: 'again', inMs: STOP_POLL_MS };

  const state = await deps.inspect(run.target);
  if (state?.kind !== 'ready') {
    await failRun(deps, run, state?.detail ?? `Target "${run.target}" is not in the targets file.`);
    return { kind: 'ended', as: 'settled' };
  }
  if (!state.target.hasMissingIndex) {
    deps.log.warn({ runId, target: run.target, ddl: state.target.missingIndexDdl }, 'missing_index_absent');
  }

  const target = targetForRun(state.target, run);
  const tenants = await orFail(deps, run, () => plan(deps, run, target));
  if (tenants === 'failed') return { kind: 'ended', as: 'settled' };
  deps.log.info({ runId, generation, tenants }, 'run_planned');
  return { kind: 'planned' };
}

/** Plans and counts side by side. Returns how many tenants were planned. */
async function plan(deps: PlanDeps, run: RunHead, target: CheckedTarget): Promise<number> {
  const snapshot = Promise.withResolvers<void>();
  // Counted as of the moment before the first batch goes out: what is embedded meanwhile was missing, too.
  const counting = inSnapshot(deps.db, snapshot.resolve, (tx) => countMissing(tx, run, target));
  // Heard below; until then its failure must not end the process.
  counting.catch(() => undefined);
  await Promise.race([snapshot.promise, counting]);

  const planned =
    run.rowLimit === null ? await planEach(deps, run, target) : await planShares(deps, run, target);
  await planOpenTenants(deps, run, target);
  const { gaps, coverage, byTenant } = await counting;
  const counted = byTenant.reduce((sum, { rows }) => sum + rows, 0);
  for (const tenants of chunksOf(run.rowLimit === null ? byTenant : [], COUNTS_AT_ONCE)) {
    await recordPlannedRows(deps.db, run, tenants);
  }
  await recordPlan(deps.db, run, {
    planned: planned.rows ?? counted,
    missing: gaps.missing,
    coverage,
  });
  return planned.tenants;
}

async function countMissing(db: Db, run: RunHead, target: CheckedTarget) {
  // A watch plans every few seconds: it counts no more rows than it found.
  const coverage = run.origin === 'watch' ? null : await countCoverage(db, target, run.tenantIds);
  const gaps = coverage ?? (await countGaps(db, target));
  // Later plans leave what the first one counted: it is what the run set out to do.
  const isFirst = run.planned === null;
  return { gaps, coverage, byTenant: isFirst ? await countWorkByTenant(db, target, scopeOf(run)) : [] };
}

/** The tenants that this generation is for; null for all. */
function scopeOf(run: RunHead): readonly string[] | null {
  return run.planTenantIds ?? run.tenantIds;
}

type Planned = {
  readonly tenants: number;
  /** Rows in all, where they are known by now. */
  readonly rows: number | null;
};

async function planEach(deps: PlanDeps, run: RunHead, target: CheckedTarget): Promise<Planned> {
  // A dry run leaves its rows missing, and a run with a cap asks before each admission, as does a tenant with a budget: their tenants have jobs of their own.
  const takesWhole = !run.dryRun && !hasCap(run);
  let tenants = 0;
  for await (const tenantIds of pagesOfTenants(deps, run, target)) {
    await waitForRoom(deps);
    const work = await countWorkUpTo(deps.db, target, tenantIds, run.batchSize + 1);
    const budgeted = takesWhole ? await listBudgeted(deps.db, tenantIds) : new Set();
    const page = work.map(({ tenantId, rows, lastId }): PlannedTenant => {
      const fits = rows <= run.batchSize;
      return {
        tenantId,
        rows: fits ? rows : null,
        allowance: null,
        wholeThroughId: fits && takesWhole && !budgeted.has(tenantId) ? lastId : null,
      };
    });
    if (!(await planPage(deps, run, target, page))) break;
    tenants += page.length;
  }
  return { tenants, rows: null };
}

/** Shares the run's limit out among its tenants. No tenant is counted further than that. */
async function planShares(deps: PlanDeps, run: RunHead, target: CheckedTarget): Promise<Planned> {
  // A limited run stops before its rows are through: what was done before counts.
  const embedded = (await readRun(deps.db, run.runId))?.embedded ?? 0;
  const limit = Math.max(0, (run.rowLimit ?? 0) - embedded);
  const work: { tenantId: string; rows: number }[] = [];
  for await (const tenantIds of pagesOfTenants(deps, run, target)) {
    if (limit > 0) work.push(...(await countWorkUpTo(deps.db, target, tenantIds, limit)));
  }
  const shares = shareLimit(
    work.map(({ rows }) => rows),
    limit,
  );
  const withShare = work
    .map(({ tenantId, rows }, index) => ({
      tenantId,
      rows,
      allowance: shares[index] ?? 0,
      wholeThroughId: null,
    }))
    .filter(({ allowance }) => allowance > 0);
  for (const page of chunksOf(withShare, PAGE_TENANTS)) {
    if (!(await planPage(deps, run, target, page))) break;
  }
  return {
    tenants: withShare.length,
    rows: withShare.reduce((sum, { rows, allowance }) => sum + Math.min(rows, allowance), 0),
  };
}

/** Tenants that an earlier generation did not bring to a good end, and that have nothing left by now, are recounted too. */
async function planOpenTenants(deps: PlanDeps, run: RunHead, target: CheckedTarget): Promise<void> {
  if (run.generation === 1) return;
  const open = await listOpenTenants(deps.db, run.runId);
  const wanted = open.filter((tenantId) => run.planTenantIds?.includes(tenantId) ?? true);
  const allowance = run.rowLimit === null ? null : 0;
  for (const tenantIds of chunksOf(wanted, PAGE_TENANTS)) {
    const page = tenantIds.map((tenantId) => ({ tenantId, rows: 0, allowance, wholeThroughId: null }));
    if (!(await planPage(deps, run, target, page))) return;
  }
}

/** Plans tenants and enqueues their jobs. Returns false when the run is not running in this generation any more. */
async function planPage(
  deps: PlanDeps,
  run: RunHead,
  target: CheckedTarget,
  page: readonly PlannedTenant[],
): Promise<boolean> {
  if (page.length === 0) return true;
  if (!(await planTenants(deps.db, run, page))) return false;
  const tenantIds = page.map(({ tenantId }) => tenantId);
  if (run.generation > 1) await keepQuarantined(deps.db, target, run, tenantIds);

  const { runId, generation, batchSize } = run;
  const planned = await listPlanned(deps.db, run, tenantIds);
  const rowsOf = new Map(page.map(({ tenantId, rows }) => [tenantId, rows]));
  const batches = planned.flatMap(({ tenantId, wholeThroughId }): RunBatch[] => {
    if (wholeThroughId === null) return [];
    const rows = rowsOf.get(tenantId) ?? batchSize;
    const range = { sequence: 1, afterId: null, throughId: wholeThroughId, rows };
    return [
      {
        runId,
        generation,
        tenantId,
        target: run.target,
        ...range,
        isWhole: true,
        ...(run.includeUnverified && { includeUnverified: true }),
      },
    ];
  });
  const others = planned.filter(({ wholeThroughId }) => wholeThroughId === null);
  if (batches.length > 0) await enqueueBatches(deps.queues, batches);
  if (others.length > 0)
    await enqueueTenants(
      deps.queues,
      others.map(({ tenantId }) => ({ runId, generation, tenantId })),
    );
  return true;
}

/** The tenants that may have work, page by page, the first page small. */
async function* pagesOfTenants(
  { db }: PlanDeps,
  run: RunHead,
  target: CheckedTarget,
): AsyncGenerator<readonly string[]> {
  const scope = scopeOf(run);
  if (scope !== null || target.tenant === null || !target.hasMissingIndex) {
    yield* chunksOf(await listTenantsWithGaps(db, target, scope), PAGE_TENANTS);
    return;
  }
  let after: string | null = null;
  for (let limit = FIRST_PAGE_TENANTS; ; limit = PAGE_TENANTS) {
    const page: string[] = await listTenantsWithGaps(db, target, null, { after, limit });
    if (page.length > 0) yield page;
    after = page.at(-1) ?? null;
    if (page.length < limit) return;
  }
}

/** Batches that wait on Redis: above this the plan waits, so that Redis does not fill and other runs come to their turn. */
const BATCHES_WAITING_MAX = 2_000;
const ROOM_POLL_MS = 100;

async function waitForRoom({ queues }: PlanDeps): Promise<void> {
  while ((await queues.batches.getWaitingCount()) > BATCHES_WAITING_MAX) await sleep(ROOM_POLL_MS);
}

/** Counts recorded in one statement. */
const COUNTS_AT_ONCE = 5_000;

function* chunksOf<Item>(items: readonly Item[], size: number): Generator<readonly Item[]> {
  for (let start = 0; start < items.length; start += size) yield items.slice(start, start + size);
}
