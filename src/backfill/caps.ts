/** What a run may spend, and whether it has. */
import { type RunHead, readSpending } from '../db/run-head.ts';
import type { PlanDeps } from './deps.ts';

/** The cap that a run has reached, in words for its reason; null while it may go on spending, or has no cap. */
export async function capReached({ db }: Pick<PlanDeps, 'db'>, run: RunHead): Promise<string | null> {
  if (!hasCap(run)) return null;
  const { tokens, costUsd } = await readSpending(db, run.runId);
  if (run.maxTokens !== null && tokens >= run.maxTokens) {
    return `max_tokens_reached: ${tokens} of ${run.maxTokens} tokens are spent`;
  }
  if (run.maxCostUsd !== null && costUsd !== null && costUsd >= run.maxCostUsd) {
    return `max_cost_reached: $${costUsd.toFixed(4)} of $${run.maxCostUsd} are spent`;
  }
  return null;
}

/** A run with a cap asks before each admission what it has spent; one without never does. */
export function hasCap({ maxTokens, maxCostUsd }: Pick<RunHead, 'maxTokens' | 'maxCostUsd'>): boolean {
  return maxTokens !== null || maxCostUsd !== null;
}
