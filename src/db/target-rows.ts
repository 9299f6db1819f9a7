/** Reads on a user's table. */
import { type SQL, sql } from 'drizzle-orm';
import { ONLY_TENANT } from '../core/target.ts';
import type { CheckedTarget } from './catalog.ts';
import type { Db } from './client.ts';
import {
  asId,
  asTenantText,
  belongsTo,
  idOf,
  isGap,
  isMissing,
  isQuarantined,
  isWork,
  tableOf,
  tenantTextOf,
  textHashOf,
  textOf,
} from './target-sql.ts';

export type MissingRow = {
  readonly rowId: string;
  /** Whole, or the beginning of a text that no request can hold. */
  readonly text: string;
  readonly isCut: boolean;
  readonly textHash: string;
  readonly bytes: number;
};

export type KeyRange = {
  /** Rows after this id; null from the first. */
  readonly afterId: string | null;
  /** Up to and with this id. */
  readonly throughId: string;
};

/**
 * Tenants that have rows without an embedding, in the order of their ids, among `tenantIds` if that is not null. A tenant may
 * turn out to have only blank or quarantined rows.
 *
 * With the partial index this hops from tenant to tenant (3.2 ms on a million rows, where DISTINCT reads them all) and can be
 * asked page by page; without it all are found at once.
 */
export async function listTenantsWithGaps(
  db: Db,
  target: CheckedTarget,
  tenantIds: readonly string[] | null,
  page: { after: string | null; limit: number } | null = null,
): Promise<string[]> {
  if (target.tenant === null)
    return tenantIds === null || tenantIds.includes(ONLY_TENANT) ? [ONLY_TENANT] : [];
  const tenant = sql`t.${sql.identifier(target.tenant)}`;
  const gap = isGap(target);
  if (!target.hasMissingIndex) {
    const rows = await db.execute<{ tenant: string }>(sql`
      SELECT DISTINCT ${tenantTextOf(target)} AS tenant FROM ${tableOf(target)}
       WHERE ${gap} AND ${tenant} IS NOT NULL
         AND (${sql.param(tenantIds)}::text[] IS NULL OR ${tenantTextOf(target)} = ANY(${sql.param(tenantIds)}::text[]))
       ORDER BY 1`);
    return rows.map((row) => row.tenant);
  }
  const start =
    page === null || page.after === null
      ? sql`true`
      : sql`${tenant} > ${page.after}::${sql.raw(target.tenantCast ?? 'text')}`;
  const rows = await db.execute<{ tenant: string }>(sql`
    WITH RECURSIVE hop (tenant) AS (
      (SELECT ${tenant} FROM ${tableOf(target)} WHERE ${gap} AND ${tenant} IS NOT NULL AND ${start} ORDER BY ${tenant} LIMIT 1)
      UNION ALL
      SELECT (SELECT ${tenant} FROM ${tableOf(target)} WHERE ${gap} AND ${tenant} > hop.tenant ORDER BY ${tenant} LIMIT 1)
        FROM hop WHERE hop.tenant IS NOT NULL
    )
    SELECT ${asTenantText(target, sql`tenant`)} AS tenant FROM hop
     WHERE tenant IS NOT NULL
       AND (${sql.param(tenantIds)}::text[] IS NULL OR ${asTenantText(target, sql`tenant`)} = ANY(${sql.param(tenantIds)}::text[]))
     LIMIT ${page?.limit ?? null}`);
  return rows.map((row) => row.tenant);
}

/** Rows a run can work on, and the UTF-8 bytes of their texts, by tenant, for those of `tenantIds` that have any. */
export async function measureWork(
  db: Db,
  target: CheckedTarget,
  tenantIds: readonly string[],
): Promise<{ tenantId: string; rows: number; bytes: number }[]> {
  const rows = await db.execute<{ tenantId: string; rows: number; bytes: number }>(sql`
    SELECT wanted.tenant AS "tenantId", work.rows::float8 AS "rows", work.bytes::float8 AS "bytes"
      FROM unnest(${sql.param(tenantIds)}::text[]) AS wanted (tenant)
     CROSS JOIN LATERAL (
       SELECT count(*) AS rows, sum(octet_length(convert_to(${textOf(target)}, 'UTF8'))) AS bytes FROM ${tableOf(target)}
        WHERE ${belongsTo(target, sql`wanted.tenant`)} AND ${isWork(target)}) work
     WHERE work.rows > 0
     ORDER BY wanted.tenant`);
  return [...rows];
}

/** Rows a run can work on by tenant, for those of `tenantIds` that have any: at most `rowsMax` are counted. */
export async function countWorkUpTo(
  db: Db,
  target: CheckedTarget,
  tenantIds: readonly string[],
  rowsMax: number,
): Promise<{ tenantId: string; rows: number; lastId: string }[]> {
  const rows = await db.execute<{ tenantId: string; rows: number; lastId: string }>(sql`
    SELECT wanted.tenant AS "tenantId", work.rows::float8 AS "rows", work.ids[cardinality(work.ids)]::text AS "lastId"
      FROM unnest(${sql.param(tenantIds)}::text[]) AS wanted (tenant)
     CROSS JOIN LATERAL (
       SELECT count(*) AS rows, array_agg(found.id ORDER BY found.id) AS ids FROM (
         SELECT ${idOf(target)} AS id FROM ${tableOf(target)}
          WHERE ${belongsTo(target, sql`wanted.tenant`)} AND ${isWork(target)}
          ORDER BY ${idOf(target)} LIMIT ${rowsMax}) found) work
     WHERE work.rows > 0
     ORDER BY wanted.tenant`);
  return [...rows];
}

/** Rows a run can work on, by tenant, among `tenantIds` if that is not null: one pass over the table. */
export async function countWorkByTenant(
  db: Db,
  target: CheckedTarget,
  tenantIds: readonly string[] | null,
): Promise<{ tenantId: string; rows: number }[]> {
  const tenant = tenantTextOf(target);
  const rows = await db.execute<{ tenantId: string; rows: number }>(sql`
    SELECT ${tenant} AS "tenantId", count(*)::float8 AS "rows" FROM ${tableOf(target)}
     WHERE ${isWork(target)} AND ${tenant} IS NOT NULL
       AND (${sql.param(tenantIds)}::text[] IS NULL OR ${tenant} = ANY(${sql.param(tenantIds)}::text[]))
     GROUP BY 1`);
  return [...rows];
}

/** Rows of one tenant that a run can still work on, without those in `exceptIds`. */
export async function countTenantWork(
  db: Db,
  target: CheckedTarget,
  tenantId: string,
  exceptIds: SQL,
): Promise<number> {
  const rows = await db.execute<{ rows: number }>(sql`
    SELECT count(*)::float8 AS "rows" FROM ${tableOf(target)}
     WHERE ${belongsTo(target, tenantId)} AND ${isWork(target)} AND NOT (${idOf(target)}::text = ANY(${exceptIds}))`);
  return rows[0]?.rows ?? 0;
}

/** No model takes a text of more bytes: 8,192 tokens of 128 bytes, the longest token there is, would be as many. */
const TEXT_BYTES_MAX = 1_048_576;
/** Enough of a longer one to cut it to what a model takes. Rows of 25 MB would otherwise fill a worker's memory. */
const TEXT_LETTERS_KEPT = 131_072;

/**
 * Selects the rows of a batch that are still missing, with their place in the order of the ids.
 *
 * @param batch with as many rows at most as were claimed: others may have arrived between them, in any number.
 * @param isWanted holds, or no row is read.
 */
export function batchRowsSql(
  target: CheckedTarget,
  batch: KeyRange & { readonly tenantId: string; readonly rows: number },
  isWanted: SQL,
  exceptIds: SQL,
): SQL {
  // Two forms, because `afterId IS NULL OR id > afterId` in a prepared statement could not use the index.
  const isAfter = batch.afterId === null ? sql`true` : sql`${idOf(target)} > ${asId(target, batch.afterId)}`;
  return sql`
    SELECT row_number() OVER (ORDER BY found.id) AS place, found.id::text AS "rowId", found."textHash",
           CASE WHEN octet_length(found."text") > ${TEXT_BYTES_MAX} THEN left(found."text", ${TEXT_LETTERS_KEPT}) ELSE found."text" END AS "text",
           octet_length(found."text") > ${TEXT_BYTES_MAX} AS "isCut" FROM (
      SELECT ${idOf(target)} AS id, ${textOf(target)} AS "text", ${textHashOf(target)} AS "textHash"
        FROM ${tableOf(target)}
       WHERE ${isWanted} AND ${belongsTo(target, batch.tenantId)} AND ${isWork(target)}
         AND ${isAfter} AND ${idOf(target)} <= ${asId(target, batch.throughId)}
         AND NOT (${idOf(target)}::text = ANY(${exceptIds}))
       ORDER BY ${idOf(target)}
       LIMIT ${batch.rows}) found`;
}

/** The ids of the rows of a batch that are still missing. */
export async function listBatchRows(
  db: Db,
  target: CheckedTarget,
  batch: KeyRange & { readonly tenantId: string; readonly rows: number },
  exceptIds: SQL,
): Promise<string[]> {
  const rows = await db.execute<{ rowId: string }>(
    sql`SELECT t."rowId" FROM (${batchRowsSql(target, batch, sql`true`, exceptIds)}) t ORDER BY t.place`,
  );
  return rows.map((row) => row.rowId);
}

/** Rows without an embedding: what another run could still fill, and what is quarantined. */
export type Gaps = { readonly missing: number; readonly quarantined: number };

/** Counts the gaps of a target alone. With the partial index it reads no other row. */
export async function countGaps(db: Db, target: CheckedTarget): Promise<Gaps> {
  const rows = await db.execute<Gaps>(sql`
    SELECT count(*) FILTER (WHERE NOT quarantined)::float8 AS "missing",
           count(*) FILTER (WHERE quarantined)::float8 AS "quarantined"
      FROM (SELECT ${isQuarantined(target)} AS quarantined FROM ${tableOf(target)} WHERE ${isMissing(target)}) gaps`);
  return rows[0] ?? { missing: 0, quarantined: 0 };
}

/** Whether there is a row that a run can work on: with the partial index, the first row of it that is one. */
export async function hasWork(db: Db, target: CheckedTarget): Promise<boolean> {
  const hasTenant = target.tenant === null ? sql`true` : sql`t.${sql.identifier(target.tenant)} IS NOT NULL`;
  const rows = await db.execute(
    sql`SELECT 1 FROM ${tableOf(target)} WHERE ${isWork(target)} AND ${hasTenant} LIMIT 1`,
  );
  return rows.length > 0;
}

/** A tenant's rows without an embedding: what another run could still fill, and what is quarantined. */
export async function countTenantGaps(
  db: Db,
  target: CheckedTarget,
  tenantId: string,
): Promise<{ missing: number; quarantined: number }> {
  const rows = await db.execute<{ missing: number; quarantined: number }>(sql`
    SELECT count(*) FILTER (WHERE NOT quarantined)::float8 AS "missing",
           count(*) FILTER (WHERE quarantined)::float8 AS "quarantined"
      FROM (SELECT ${isQuarantined(target)} AS quarantined FROM ${tableOf(target)}
             WHERE ${belongsTo(target, tenantId)} AND ${isMissing(target)}) gaps`);
  return rows[0] ?? { missing: 0, quarantined: 0 };
}

/** Missing rows that belong to no tenant: nobody's key may embed them. */
export async function countWithoutTenant(db: Db, target: CheckedTarget): Promise<number> {
  if (target.tenant === null) return 0;
  const rows = await db.execute<{ rows: number }>(sql`
    SELECT count(*)::float8 AS "rows" FROM ${tableOf(target)}
     WHERE t.${sql.identifier(target.tenant)} IS NULL AND ${isMissing(target)}`);
  return rows[0]?.rows ?? 0;
}

/** Quarantined rows of the tenants that a run has planned. */
export async function countQuarantinedOfRun(db: Db, target: CheckedTarget, runId: string): Promise<number> {
  const isPlanned =
    target.tenant === null
      ? sql`true`
      : sql`${tenantTextOf(target)} IN (SELECT p.tenant_id FROM infill.run_tenants p WHERE p.run_id = ${runId})`;
  const rows = await db.execute<{ rows: number }>(sql`
    SELECT count(*)::float8 AS "rows" FROM ${tableOf(target)}
     WHERE ${isMissing(target)} AND ${isQuarantined(target)} AND ${isPlanned}`);
  return rows[0]?.rows ?? 0;
}
