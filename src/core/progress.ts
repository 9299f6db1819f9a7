/** Counts of rows, as a run or a tenant's part of one has them. */
export type RowCounts = {
  readonly planned: number;
  readonly embedded: number;
  readonly superseded: number;
  readonly gone: number;
  readonly quarantined: number;
  readonly failed: number;
};

/** Rows that need no more work in this run. Superseded rows do: the next pass takes them up. */
export function rowsDone({ embedded, gone, quarantined, failed }: RowCounts): number {
  return embedded + gone + quarantined + failed;
}

/**
 * How far a run is, as a whole number of percent.
 *
 * Below 100 until the run is settled, and never above: rows may arrive while it goes on, and those count as embedded
 * without having been planned.
 */
export function progressPercent(counts: RowCounts, isSettled: boolean): number {
  if (isSettled) return 100;
  if (counts.planned <= 0) return 0;
  return Math.min(99, Math.floor((rowsDone(counts) / counts.planned) * 100));
}

/** Seconds until a run is through at its average speed so far; null while there is no speed to go by, or no need to. */
export function etaSeconds(counts: RowCounts, startedAtMs: number | null, nowMs: number): number | null {
  const done = rowsDone(counts);
  if (startedAtMs === null || done === 0 || nowMs <= startedAtMs) return null;
  const left = Math.max(0, counts.planned - done);
  return Math.ceil((left * (nowMs - startedAtMs)) / done / 1_000);
}
