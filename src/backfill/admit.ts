import { budgetRoom } from '../core/budget.ts';
import type { GateAnswer, HeldSwitch } from '../core/health-gate.ts';
import { listBudgeted, lockBudget } from '../db/budgets.ts';
import type { CheckedTarget } from '../db/catalog.ts';
import { type ClaimedRange, type ClaimOptions, claimRange } from '../db/claims.ts';
import type { Db } from '../db/client.ts';
import type { RunHead } from '../db/run-head.ts';
import { type RunTenantKey, setHoldReason } from '../db/run-tenants.ts';
import { listSwitches } from '../db/switches.ts';
import { enqueueBatches } from '../queue/enqueue.ts';
import type { RunBatch } from '../queue/jobs.ts';
import { capReached } from './caps.ts';
import type { PlanDeps } from './deps.ts';

export type Admission = {
  /** Batches that were admitted. */
  readonly batches: number;
  /** Why none may be admitted now, although there may be work; null when nothing holds the tenant. */
  readonly held: string | null;
};

/** What is known of a tenant already, by whoever admits. */
export type Known = {
  readonly switches?: readonly HeldSwitch[];
  /** Why the tenant was held the last time; undefined when that is not known. */
  readonly holdReason?: string | null;
  readonly weight?: number;
  /** Whether the tenant has a budget; undefined when that is not known. */
  readonly hasBudget?: boolean;
};

/**
 * Fills a tenant's window: claims key ranges and enqueues their batches, until the window is full or no row is left.
 *
 * Safe to repeat at any time and by any number of callers: what is under way counts against the window.
 */
export async function admit(
  deps: PlanDeps,
  run: RunHead,
  key: RunTenantKey,
  target: CheckedTarget,
  known: Known = {},
): Promise<Admission> {
  if ((await capReached(deps, run)) !== null) return { batches: 0, held: null };
  const answer = await askGate(deps, run, key, known);
  if (answer.kind === 'held') return { batches: 0, held: answer.reason };

  const options = await claimOptionsOf(deps, key, answer, known);
  const ranges: ClaimedRange[] = [];
  let held: string | null = null;
  for (;;) {
    const claim = await claimWithinBudget(deps, target, key, options, known);
    held = claim.held;
    if (claim.range === undefined) break;
    ranges.push(claim.range);
    if (isFull(run, claim.range, options)) break;
  }
  await enqueueRanges(deps, run, key, ranges);
  return { batches: ranges.length, held: ranges.length === 0 ? held : null };
}

type Claim = { readonly range: ClaimedRange | undefined; readonly held: string | null };

/** Claims a range. What a tenant with a budget has left of it, and has in hand, says how many rows that may be. */
async function claimWithinBudget(
  { db }: PlanDeps,
  target: CheckedTarget,
  key: RunTenantKey,
  options: ClaimOptions,
  { hasBudget }: Known,
): Promise<Claim> {
  const { tenantId } = key;
  if (!(hasBudget ?? (await listBudgeted(db, [tenantId])).has(tenantId)))
    return { range: await claimRange(db, target, key, options), held: null };
  return db.transaction(async (transaction) => {
    const tx = transaction as unknown as Db;
    const budget = await lockBudget(tx, tenantId, target.name);
    const room = budget === undefined ? undefined : budgetRoom(budget, target.model);
    if (room?.kind === 'reached') return { range: undefined, held: null };
    if (room?.kind === 'reserved') return { range: undefined, held: BUDGET_IN_HAND };
    const rows = room === undefined ? {} : { rowsMax: room.rowsMax };
    return { range: await claimRange(tx, target, key, { ...options, ...rows }), held: null };
  });
}

/** Why a tenant waits: what is in hand may use up what its budget has left. */
const BUDGET_IN_HAND = 'the rest of the budget is reserved for work in hand';

export async function claimOptionsOf(
  deps: PlanDeps,
  { tenantId }: RunTenantKey,
  answer: GateAnswer,
  { weight }: Known,
): Promise<ClaimOptions> {
  return {
    window: await deps.windowOf(tenantId, weight),
    windowMax: answer.kind === 'slow' ? 1 : WINDOW_MAX,
  };
}

/** No bound: a window is at most 1,000. */
const WINDOW_MAX = 1_000_000;

/** Whether a tenant's window is full after a claim, so that asking for another one would be in vain. */
export function isFull(
  run: RunHead,
  { underWay }: ClaimedRange,
  { window, windowMax }: ClaimOptions,
): boolean {
  return underWay >= Math.min(run.window ?? window, windowMax);
}

/** Enqueues the batches of ranges that were claimed. */
export async function enqueueRanges(
  { queues }: Pick<PlanDeps, 'queues'>,
  { target, includeUnverified }: RunHead,
  { runId, generation, tenantId }: RunTenantKey,
  ranges: readonly ClaimedRange[],
): Promise<void> {
  const batches = ranges.map(
    ({ sequence, afterId, throughId, rows }): RunBatch => ({
      runId,
      generation,
      tenantId,
      target,
      sequence,
      afterId,
      throughId,
      rows,
      ...(includeUnverified && { includeUnverified }),
    }),
  );
  if (batches.length > 0) await enqueueBatches(queues, batches);
}

/** Asks whether the database and the operator let a tenant go on, and shows on its run why not. */
export async function askGate(
  deps: PlanDeps,
  run: RunHead,
  key: RunTenantKey,
  { switches, holdReason }: Known = {},
): Promise<GateAnswer> {
  const answer = await deps.gate(run.target, key.tenantId, switches ?? (await listSwitches(deps.db)));
  const reason =
    answer.kind === 'open' ? null : answer.kind === 'slow' ? `slowed down: ${answer.reason}` : answer.reason;
  // Almost always nothing is held and nothing was: that costs no statement.
  if (reason === null && holdReason === null) return answer;
  if (!(await setHoldReason(deps.db, key, reason))) return answer;
  const { runId, tenantId } = key;
  deps.log.info({ runId, tenantId, reason }, reason === null ? 'tenant_goes_on' : 'tenant_held');
  return answer;
}
