/**
 * Shares a run's row limit out among its tenants, as evenly as their work allows.
 *
 * Each tenant gets the same until it has no more rows; what it leaves goes to the others. The shares add up to the limit,
 * or to all rows where those are fewer; single rows that do not divide go to the first tenants.
 *
 * @param rows rows to work on by tenant, each a whole number above 0.
 * @param limit rows in all; null for no limit, which gives each tenant null.
 */
export function shareLimit(rows: readonly number[], limit: number | null): (number | null)[] {
  if (limit === null) return rows.map(() => null);
  const shares = rows.map(() => 0);
  let left = limit;
  let hungry = rows.map((_, index) => index);
  while (left > 0 && hungry.length > 0) {
    const each = Math.max(1, Math.floor(left / hungry.length));
    for (const index of hungry) {
      const taken = Math.min(each, left, (rows[index] ?? 0) - (shares[index] ?? 0));
      shares[index] = (shares[index] ?? 0) + taken;
      left -= taken;
    }
    hungry = hungry.filter((index) => (shares[index] ?? 0) < (rows[index] ?? 0));
  }
  return shares;
}
