/** The statements that claim a tenant's next rows, and settle a tenant that had one batch. */
import { type SQL, sql } from 'drizzle-orm';
import type { CheckedTarget } from './catalog.ts';
import type { Db } from './client.ts';
import { idsGivenUp } from './run-batches.ts';
import { isPart, type RunTenantKey } from './run-tenants.ts';
import { asId, belongsTo, idOf, isMissing, isWork, tableOf } from './target-sql.ts';

/** The rows that one batch is to embed, as an admission claimed them. */
export type ClaimedRange = {
  readonly sequence: number;
  readonly afterId: string | null;
  readonly throughId: string;
  /** Rows that were in the range. */
  readonly rows: number;
  /** Batches of the tenant that are under way, this one included. */
  readonly underWay: number;
};

export type ClaimOptions = {
  /** Batches of the tenant that may be under way at once, where the run does not say how many. */
  readonly window: number;
  /** Bounds the run's own window, too. */
  readonly windowMax: number;
  /** Bounds the rows of the claim, where a budget is nearly used up. */
  readonly rowsMax?: number;
};

/**
 * Claims the next key range of a tenant, as many rows as the run has in a batch at most, in one statement: two callers never get the same rows.
 *
 * Returns undefined when there is nothing to claim now: the pass is through, the window is full, the allowance is used up,
 * or the run or the tenant is not running in this generation. A claim that is lost before its job is enqueued is taken up
 * by the next pass. A pass goes up to the last row that was there when it began: otherwise rows that keep arriving at the
 * end would keep it, and the run, open for ever.
 */
export async function claimRange(
  db: Db,
  target: CheckedTarget,
  key: RunTenantKey,
  options: ClaimOptions,
): Promise<ClaimedRange | undefined> {
  return (await db.execute<ClaimedRange>(claimSql(target, key, options)))[0];
}

export function claimSql(
  target: CheckedTarget,
  key: RunTenantKey,
  { window, windowMax, rowsMax }: ClaimOptions,
): SQL {
  const isNext = sql`${belongsTo(target, key.tenantId)} AND ${isWork(target)} AND NOT (${idOf(target)}::text = ANY(${idsGivenUp(key)}))`;
  // Keyset, not OFFSET: rows leave this set as they are embedded. Two branches, because `cursor IS NULL OR id > cursor`
  // could not use the index and would step over every row that was written before.
  return sql`
    WITH mine AS (
      SELECT p.cursor, p.pass_end, least(r.batch_size, p.allowance, ${rowsMax ?? null}::bigint) AS rows_max
        FROM infill.run_tenants p JOIN infill.runs r ON r.run_id = p.run_id
       WHERE p.run_id = ${key.runId} AND p.tenant_id = ${key.tenantId} AND p.generation = ${key.generation}
         AND p.status = 'running' AND r.status = 'running' AND r.generation = p.generation
         AND p.admitted - p.ended < least(coalesce(r."window", ${window}::int), ${windowMax}::int)
         FOR UPDATE OF p
    ), walk AS (
      SELECT mine.cursor, mine.rows_max, CASE WHEN mine.cursor IS NOT NULL THEN mine.pass_end ELSE (
               SELECT ${idOf(target)}::text FROM ${tableOf(target)} WHERE ${isNext} ORDER BY ${idOf(target)} DESC LIMIT 1) END AS pass_end
        FROM mine
    ), next AS (
      SELECT array_agg(found.id::text ORDER BY found.id) AS ids
        FROM walk CROSS JOIN LATERAL (
          (SELECT ${idOf(target)} AS id FROM ${tableOf(target)} WHERE walk.cursor IS NULL AND ${isNext}
            ORDER BY ${idOf(target)} LIMIT walk.rows_max)
          UNION ALL
          (SELECT ${idOf(target)} AS id FROM ${tableOf(target)}
            WHERE ${idOf(target)} > ${asId(target, sql`walk.cursor`)} AND ${idOf(target)} <= ${asId(target, sql`walk.pass_end`)} AND ${isNext}
            ORDER BY ${idOf(target)} LIMIT walk.rows_max)) found
    )
    UPDATE infill.run_tenants p
       SET cursor = next.ids[cardinality(next.ids)], pass_end = walk.pass_end, admitted = p.admitted + 1,
           allowance = p.allowance - cardinality(next.ids)
      FROM walk, next
     WHERE p.run_id = ${key.runId} AND p.tenant_id = ${key.tenantId} AND p.generation = ${key.generation} AND cardinality(next.ids) > 0
    RETURNING p.admitted AS "sequence", walk.cursor AS "afterId", p.cursor AS "throughId", cardinality(next.ids) AS "rows",
              p.admitted - p.ended AS "underWay"`;
}

/**
 * Settles a tenant whose one batch, admitted by the plan, was all it had and left nothing missing. Anything else is left to the
 * tenant's job.
 */
export function settleWholeSql(target: CheckedTarget, key: RunTenantKey): SQL {
  return sql`
    UPDATE infill.run_tenants p SET status = 'succeeded', settled_at = now(), remaining = 0
     WHERE ${isPart(key)} AND status = 'running' AND failed = 0 AND quarantined = 0 AND ended = admitted
       AND EXISTS (SELECT 1 FROM infill.runs r WHERE r.run_id = p.run_id AND r.generation = p.generation AND r.status = 'running')
       AND NOT EXISTS (SELECT 1 FROM ${tableOf(target)} WHERE ${belongsTo(target, key.tenantId)} AND ${isMissing(target)})
    RETURNING 1`;
}
