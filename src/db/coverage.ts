/** Counts a target's rows by what can be said of their embedding. */
import { type SQL, sql } from 'drizzle-orm';
import type { CheckedTarget } from './catalog.ts';
import type { Db } from './client.ts';
import type { StoredCoverage } from './schema.ts';
import { embeddingOf, isGap, isInScope, isMissing, isQuarantined, stampOf, tableOf } from './target-sql.ts';

const NOTHING: StoredCoverage = {
  missing: 0,
  stale: 0,
  unverified: 0,
  quarantined: 0,
  unembeddable: 0,
  embedded: 0,
  estimated: false,
};

/**
 * Counts a target's rows by what can be said of their embedding, for `tenantIds` or, if null, for all, rows without a
 * tenant included.
 *
 * `missing` leaves the quarantined out: it is what another run could still fill, plus rows that belong to no tenant.
 */
export async function countCoverage(
  db: Db,
  checked: CheckedTarget,
  tenantIds: readonly string[] | null,
): Promise<StoredCoverage> {
  // To a run that goes over unverified rows they are work; to the rest of the world they have an embedding.
  const target: CheckedTarget = { ...checked, includesUnverified: false };
  const isTheirs = isOfTenants(target, tenantIds);
  const hasEmbedding = sql`${embeddingOf(target)} IS NOT NULL`;
  const isUnstamped = target.stamp === undefined ? sql`false` : sql`${stampOf(target)} IS NULL`;
  // The texts are read of the gaps alone, which an index finds; of the embedded rows they may be many gigabytes.
  const rows = await db.execute<StoredCoverage>(sql`
    SELECT gaps.missing::float8 AS "missing", gaps.stale::float8 AS "stale", gaps.quarantined::float8 AS "quarantined",
           gaps.blank::float8 AS "unembeddable", filled.unverified::float8 AS "unverified",
           (filled.rows - filled.unverified - gaps.filled)::float8 AS "embedded", false AS "estimated"
      FROM (SELECT count(*) FILTER (WHERE missing AND NOT quarantined) AS missing,
                   count(*) FILTER (WHERE missing AND NOT quarantined AND filled) AS stale,
                   count(*) FILTER (WHERE missing AND quarantined) AS quarantined,
                   count(*) FILTER (WHERE NOT missing) AS blank, count(*) FILTER (WHERE filled) AS filled
              FROM (SELECT coalesce((${isMissing(target)}), false) AS missing, ${isQuarantined(target)} AS quarantined,
                           ${hasEmbedding} AS filled
                      FROM ${tableOf(target)} WHERE ${isTheirs} AND ${isGap(target)}) rows) gaps
     CROSS JOIN (SELECT count(*) AS rows, count(*) FILTER (WHERE ${isUnstamped}) AS unverified
                   FROM ${tableOf(target)} WHERE ${isTheirs} AND ${isInScope(target)} AND ${hasEmbedding}) filled`);
  return rows[0] ?? NOTHING;
}

/** Whether a row is of one of `tenantIds`; of any tenant, or none, if that is null. */
export function isOfTenants(target: CheckedTarget, tenantIds: readonly string[] | null): SQL {
  if (tenantIds === null || target.tenant === null) return sql`true`;
  return sql`t.${sql.identifier(target.tenant)} = ANY(${sql.param(tenantIds)}::text[]::${sql.raw(`${target.tenantCast}[]`)})`;
}
