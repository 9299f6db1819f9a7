/** How long a statement that writes vectors may take: long enough to be worth its round trip, short enough to wait for. */
export const STATEMENT_TARGET_MS = 250;
/**
 * A cautious beginning. With an HNSW index on the column a row takes 12 ms, and sixteen batches that begin side by side on
 * two cores make that 100 ms: four rows are 0.4 s then.
 */
export const STATEMENT_ROWS_START = 4;
export const STATEMENT_ROWS_MAX = 2_048;

const GROWTH_MAX = 1.2;
const SHRINK_MIN = 0.25;

/**
 * Rows that the next statement should write, after one of `rows` rows took `tookMs`.
 *
 * Shrinks at once to what would have taken the target's time, at most to a quarter; grows by at most a fifth, and only
 * after a statement that was full: a short one says nothing about a long one.
 */
export function nextStatementRows(size: number, rows: number, tookMs: number): number {
  if (rows <= 0) return size;
  const factor = STATEMENT_TARGET_MS / Math.max(1, tookMs);
  if (factor < 1) return Math.max(1, Math.min(size, Math.floor(rows * Math.max(SHRINK_MIN, factor))));
  if (rows < size) return size;
  return Math.min(STATEMENT_ROWS_MAX, Math.max(size + 1, Math.floor(size * Math.min(GROWTH_MAX, factor))));
}
