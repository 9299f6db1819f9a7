import assert from 'node:assert/strict';

export type BackoffOptions = {
  /** Longest delay before the second attempt. */
  readonly baseMs: number;
  /** Longest delay before any attempt. */
  readonly maxMs: number;
};

/**
 * Delay after the failure of `attempt` (counted from 1), in milliseconds, with full jitter: anything from zero to
 * `baseMs` doubled with every attempt and capped at `maxMs`.
 *
 * `random` in [0, 1) spreads what failed together over the whole delay, which empties the queue at a provider soonest.
 * Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
 */
export function backoffMs(attempt: number, random: number, { baseMs, maxMs }: BackoffOptions): number {
  assert(attempt >= 1, 'attempts count from 1');
  assert(random >= 0 && random < 1, 'random is in [0, 1)');
  return Math.floor(random * (backoffCeilingMs(attempt, { baseMs, maxMs }) + 1));
}

/** The longest delay after the failure of `attempt`. */
export function backoffCeilingMs(attempt: number, { baseMs, maxMs }: BackoffOptions): number {
  return Math.min(maxMs, baseMs * 2 ** (attempt - 1));
}

/** How far snoozes of the same length are spread: a fifth of the wait, but at least and at most this much. */
const SPREAD = { share: 0.2, leastMs: 100, mostMs: 5_000 } as const;

/**
 * When to come back from a snooze of `waitMs` milliseconds: never earlier, and a little later, so that the batches that
 * were told the same do not come back in the same moment. `random` in [0, 1).
 */
export function snoozeMs(waitMs: number, random: number): number {
  assert(random >= 0 && random < 1, 'random is in [0, 1)');
  const spreadMs = Math.min(SPREAD.mostMs, Math.max(SPREAD.leastMs, waitMs * SPREAD.share));
  return Math.ceil(Math.max(0, waitMs) + random * spreadMs);
}
