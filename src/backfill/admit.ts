import type { GateAnswer } from '../core/health-gate.ts';
import type { CheckedTarget } from '../db/catalog.ts';
import { idsGivenUp } from '../db/run-batches.ts';
import { claimRange, type RunTenantKey, setHoldReason } from '../db/run-tenants.ts';
import type { RunRecord } from '../db/runs.ts';
import { noIds } from '../db/target-sql.ts';
import { enqueueBatches } from '../queue/enqueue.ts';
import type { RunBatch } from '../queue/jobs.ts';
import type { PlanDeps } from './deps.ts';

export type Admission = {
  /** Batches that were admitted. */
  readonly batches: number;
  /** Why none may be admitted now, although there may be work; null when nothing holds the tenant. */
  readonly held: string | null;
};

/**
 * Fills a tenant's window: claims key ranges and enqueues their batches, until the window is full or no row is left.
 *
 * Safe to repeat at any time and by any number of callers: what is under way counts against the window.
 */
export async function admit(
  deps: PlanDeps,
  run: RunRecord,
  key: RunTenantKey,
  target: CheckedTarget,
): Promise<Admission> {
  if (capReached(run) !== null) return { batches: 0, held: null };
  const answer = await askGate(deps, run, key);
  if (answer.kind === 'held') return { batches: 0, held: answer.reason };

  const share = run.window ?? (await deps.windowOf(key.tenantId));
  const window = answer.kind === 'slow' ? 1 : share;
  // A first pass has nothing behind it that it could meet again.
  const exceptIds = run.failed === 0 ? noIds : idsGivenUp(key);
  const batches: RunBatch[] = [];
  while (batches.length < window) {
    const range = await claimRange(deps.db, target, key, { rowsMax: run.batchSize, window, exceptIds });
    if (range === undefined) break;
    batches.push({ runId: key.runId, generation: key.generation, tenantId: key.tenantId, ...range });
  }
  if (batches.length > 0) await enqueueBatches(deps.queues, batches);
  return { batches: batches.length, held: null };
}

/** Asks whether the database and the operator let a tenant go on, and shows on its run why not. */
export async function askGate(deps: PlanDeps, run: RunRecord, key: RunTenantKey): Promise<GateAnswer> {
  const answer = await deps.gate(run.target, key.tenantId);
  await noteHold(deps, run, key, answer);
  return answer;
}

/** Shows why a tenant holds or goes slowly, and takes that away again. */
async function noteHold(
  deps: PlanDeps,
  run: RunRecord,
  key: RunTenantKey,
  answer: GateAnswer,
): Promise<void> {
  const reason =
    answer.kind === 'open' ? null : answer.kind === 'slow' ? `slowed down: ${answer.reason}` : answer.reason;
  // Almost always nothing is held and nothing was: that costs no statement.
  if (reason === null && run.holdReason === null) return;
  if (!(await setHoldReason(deps.db, key, reason))) return;
  const { runId, tenantId } = key;
  deps.log.info({ runId, tenantId, reason }, reason === null ? 'tenant_goes_on' : 'tenant_held');
}

/** The cap that a run has reached, in words for its reason; null while it may go on spending. */
export function capReached(run: RunRecord): string | null {
  if (run.maxTokens !== null && run.tokens >= run.maxTokens) {
    return `max_tokens_reached: ${run.tokens} of ${run.maxTokens} tokens are spent`;
  }
  if (run.maxCostUsd !== null && run.costUsd !== null && run.costUsd >= run.maxCostUsd) {
    return `max_cost_reached: $${run.costUsd.toFixed(4)} of $${run.maxCostUsd} are spent`;
  }
  return null;
}
