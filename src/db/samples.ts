/** Statements on `infill.coverage_samples`: how the coverage of each target has been. */
import { sql } from 'drizzle-orm';
import type { Db } from './client.ts';
import type { StoredCoverage } from './schema.ts';

export type CoverageSample = StoredCoverage & { readonly at: string };

const moment = (column: string) =>
  sql.raw(`to_char(${column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`);

/** Those of `targets` whose last sample is older than `ageMs`, or that have none. */
export async function listUnsampled(db: Db, targets: readonly string[], ageMs: number): Promise<string[]> {
  const rows = await db.execute<{ target: string }>(sql`
    SELECT t.target FROM unnest(${sql.param(targets)}::text[]) AS t (target)
     WHERE NOT EXISTS (SELECT 1 FROM infill.coverage_samples s
                        WHERE s.target = t.target AND s.at > now() - make_interval(secs => ${ageMs / 1_000}))`);
  return rows.map((row) => row.target);
}

export async function addSample(db: Db, target: string, counts: StoredCoverage): Promise<void> {
  const { missing, stale, unverified, quarantined, unembeddable, embedded, estimated } = counts;
  await db.execute(sql`
    INSERT INTO infill.coverage_samples (target, missing, stale, unverified, quarantined, unembeddable, embedded, estimated)
    VALUES (${target}, ${missing}, ${stale}, ${unverified}, ${quarantined}, ${unembeddable}, ${embedded}, ${estimated})`);
}

/** The samples of a target of the last `hours`, the oldest first. */
export async function listSamples(db: Db, target: string, hours: number): Promise<CoverageSample[]> {
  const rows = await db.execute<CoverageSample>(sql`
    SELECT ${moment('at')} AS "at", missing::float8 AS "missing", stale::float8 AS "stale", unverified::float8 AS "unverified",
           quarantined::float8 AS "quarantined", unembeddable::float8 AS "unembeddable", embedded::float8 AS "embedded", estimated
      FROM infill.coverage_samples
     WHERE target = ${target} AND at > now() - make_interval(hours => ${hours}) ORDER BY at`);
  return [...rows];
}

/**
 * Since when a target has had missing rows without a break, as far as samples and the watch have seen; null while it has none.
 */
export async function readGapSince(db: Db, target: string): Promise<string | null> {
  const rows = await db.execute<{ since: string | null }>(sql`
    SELECT ${moment('since')} AS "since" FROM (
      SELECT least(
        (SELECT min(s.at) FROM infill.coverage_samples s
          WHERE s.target = ${target} AND s.missing > 0
            AND s.at > coalesce((SELECT max(c.at) FROM infill.coverage_samples c WHERE c.target = ${target} AND c.missing = 0), '-infinity')),
        (SELECT w.gap_since FROM infill.watches w WHERE w.target = ${target})) AS since) gap`);
  return rows[0]?.since ?? null;
}
