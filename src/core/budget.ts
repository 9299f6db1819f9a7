/** What a tenant may spend in a month, and how much of it is left for the next batch. */
import { costUsd } from './cost.ts';

/** A tenant's budget and what the present month has used of it. Tokens, and US dollars where the model's price is known. */
export type BudgetState = {
  readonly maxTokens: number | null;
  readonly maxCostUsd: number | null;
  /** The month in UTC, as `2026-11`. */
  readonly month: string;
  readonly tokens: number;
  readonly costUsd: number;
  /** Rows of batches that are admitted and have not ended, of all targets. */
  readonly rowsInHand: number;
  /** Tokens that a row of the target took so far, on average; null before the first. */
  readonly tokensPerRow: number | null;
};

export type BudgetRoom =
  /** So many rows may be admitted. */
  | { readonly kind: 'open'; readonly rowsMax: number }
  /** What is in hand may use up the rest. */
  | { readonly kind: 'reserved' }
  | { readonly kind: 'reached'; readonly reason: string };

/** Tokens of a row where nothing is known: a page of text. */
const TOKENS_PER_ROW_GUESS = 500;

/**
 * How many rows of a target may be admitted under a budget: what is spent and what is in hand counts.
 *
 * The caps hold up to the error of the estimate, which is an average of the rows that the target had so far. While anything is
 * left, a row may be admitted.
 */
export function budgetRoom(state: BudgetState, model: string): BudgetRoom {
  const reason = budgetReached(state);
  if (reason !== null) return { kind: 'reached', reason };
  const tokensPerRow = state.tokensPerRow ?? TOKENS_PER_ROW_GUESS;
  const usdPerToken = costUsd(model, 1);
  const byTokens = state.maxTokens === null ? Number.POSITIVE_INFINITY : state.maxTokens - state.tokens;
  const byCost =
    state.maxCostUsd === null || usdPerToken === null
      ? Number.POSITIVE_INFINITY
      : (state.maxCostUsd - state.costUsd) / usdPerToken;
  const rows = Math.floor(Math.min(byTokens, byCost) / tokensPerRow) - state.rowsInHand;
  if (rows >= 1) return { kind: 'open', rowsMax: Math.min(rows, ROWS_MAX) };
  return state.rowsInHand > 0 ? { kind: 'reserved' } : { kind: 'open', rowsMax: 1 };
}

/** No bound: a batch is smaller. */
const ROWS_MAX = 1_000_000;

/** Why nothing more may be spent this month, in words for the reason of a run; null while something may. */
export function budgetReached(
  state: Pick<BudgetState, 'maxTokens' | 'maxCostUsd' | 'month' | 'tokens' | 'costUsd'>,
): string | null {
  const { maxTokens, maxCostUsd, month, tokens } = state;
  if (maxTokens !== null && tokens >= maxTokens)
    return `budget_reached: ${tokens} of ${maxTokens} tokens of ${month} are spent`;
  if (maxCostUsd !== null && state.costUsd >= maxCostUsd)
    return `budget_reached: $${state.costUsd.toFixed(4)} of $${maxCostUsd} of ${month} are spent`;
  return null;
}
