/** When a watch looks again. All times in milliseconds. */
import { backoffCeilingMs } from './backoff.ts';

/** Without the partial index a look may read the whole table. */
export const UNINDEXED_EVERY_MS = 600_000;
/** While rows keep arriving: they are not to wait for the watch's own beat. */
const BUSY_EVERY_MS = 1_000;
/** A tenant whose rows fail again and again is tried after half a minute, then after twice that, up to ten minutes. */
const FRUITLESS = { baseMs: 30_000, maxMs: 600_000 };

/** Time until the next look, from the present one. */
export function watchDelayMs(
  everySeconds: number,
  { hasIndex, isBusy }: { hasIndex: boolean; isBusy: boolean },
): number {
  const everyMs = everySeconds * 1_000;
  if (!hasIndex) return Math.max(everyMs, UNINDEXED_EVERY_MS);
  return isBusy ? Math.min(everyMs, BUSY_EVERY_MS) : everyMs;
}

/** How long tenants that got nothing are left out, after so many runs of that kind in a row. */
export function fruitlessDelayMs(runs: number): number {
  return backoffCeilingMs(Math.max(1, runs), FRUITLESS);
}
