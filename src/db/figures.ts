/** Figures for a monitor, over all runs and keys. Cheap enough to be asked for every few seconds. */
import { sql } from 'drizzle-orm';
import type { Db } from './client.ts';

/** A value and what it is of. */
export type Figure = { readonly labels: Readonly<Record<string, string>>; readonly value: number };

/** Unsettled runs by target and status. There is at most one of a target. */
export async function countUnsettledRuns(db: Db): Promise<Figure[]> {
  const rows = await db.execute<{ target: string; status: string; value: number }>(sql`
    SELECT target, status, count(*)::int AS "value" FROM infill.runs WHERE settled_at IS NULL GROUP BY 1, 2`);
  return rows.map(({ value, ...labels }) => ({ labels, value }));
}

/** Rows that were missing when a run last counted, and when that was (seconds since 1970), by target. */
export async function readLastCounts(db: Db): Promise<{ missing: Figure[]; countedAt: Figure[] }> {
  const rows = await db.execute<{ target: string; missing: number; countedAt: number }>(sql`
    SELECT DISTINCT ON (target) target, (coverage_after ->> 'missing')::float8 AS "missing",
           extract(epoch FROM settled_at)::float8 AS "countedAt"
      FROM infill.runs WHERE coverage_after IS NOT NULL AND settled_at IS NOT NULL
     ORDER BY target, settled_at DESC`);
  return {
    missing: rows.map(({ target, missing }) => ({ labels: { target }, value: missing })),
    countedAt: rows.map(({ target, countedAt }) => ({ labels: { target }, value: countedAt })),
  };
}

/** Tenants' keys by their health. */
export async function countCredentials(db: Db): Promise<Figure[]> {
  const rows = await db.execute<{ status: string; value: number }>(sql`
    SELECT status, count(*)::int AS "value" FROM infill.tenant_credentials GROUP BY 1`);
  return rows.map(({ value, ...labels }) => ({ labels, value }));
}

/** Seconds since the watch found the gap that a target has, by target. 0: it has none. */
export async function readGapAges(db: Db): Promise<Figure[]> {
  const rows = await db.execute<{ target: string; value: number }>(sql`
    SELECT target, coalesce(extract(epoch FROM now() - gap_since), 0)::float8 AS "value"
      FROM infill.watches WHERE checked_at IS NOT NULL`);
  return rows.map(({ value, ...labels }) => ({ labels, value }));
}
