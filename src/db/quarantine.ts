/** Statements on `infill.quarantined_rows`: rows whose text a provider refuses. */
import { type SQL, sql } from 'drizzle-orm';
import type { Db } from './client.ts';

export type QuarantinedRow = {
  readonly target: string;
  readonly rowId: string;
  readonly tenantId: string;
  readonly textHash: string;
  readonly model: string;
  readonly code: string;
  readonly message: string | null;
  readonly runId: string | null;
};

export type QuarantineFilter = {
  readonly target?: string | undefined;
  readonly tenantId?: string | undefined;
  readonly code?: string | undefined;
  readonly rowIds?: readonly string[] | undefined;
};

/** Sets rows aside. Safe to repeat: the newest refusal of a row replaces the one before. */
export async function quarantineRows(db: Db, rows: readonly QuarantinedRow[]): Promise<void> {
  if (rows.length === 0) return;
  const values = rows.map(
    (row) =>
      sql`(${row.target}, ${row.rowId}, ${row.tenantId}, ${row.textHash}, ${row.model}, ${row.code}, ${row.message}, ${row.runId}::uuid)`,
  );
  await db.execute(sql`
    INSERT INTO infill.quarantined_rows (target, row_id, tenant_id, text_hash, model, code, message, run_id)
    VALUES ${sql.join(values, sql`, `)}
    ON CONFLICT (target, row_id) DO UPDATE
       SET tenant_id = excluded.tenant_id, text_hash = excluded.text_hash, model = excluded.model, code = excluded.code,
           message = excluded.message, run_id = excluded.run_id, quarantined_at = now()`);
}

/** Quarantined rows in the order of target and row id, after `after`. */
export async function listQuarantined(
  db: Db,
  filter: QuarantineFilter,
  { after, limit }: { after: { target: string; rowId: string } | null; limit: number },
): Promise<(QuarantinedRow & { quarantinedAt: string })[]> {
  const start = after === null ? sql`true` : sql`(target, row_id) > (${after.target}, ${after.rowId})`;
  const rows = await db.execute<QuarantinedRow & { quarantinedAt: string }>(sql`
    SELECT target, row_id AS "rowId", tenant_id AS "tenantId", text_hash AS "textHash", model, code, message,
           run_id AS "runId", to_char(quarantined_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS "quarantinedAt"
      FROM infill.quarantined_rows WHERE ${matches(filter)} AND ${start}
     ORDER BY target, row_id LIMIT ${limit}`);
  return [...rows];
}

/** Releases rows, so that the next run tries them again, and returns how many. */
export async function releaseQuarantined(db: Db, filter: QuarantineFilter): Promise<number> {
  const rows = await db.execute(
    sql`DELETE FROM infill.quarantined_rows WHERE ${matches(filter)} RETURNING 1`,
  );
  return rows.length;
}

function matches({ target, tenantId, code, rowIds }: QuarantineFilter): SQL {
  const conditions = [sql`true`];
  if (target !== undefined) conditions.push(sql`target = ${target}`);
  if (tenantId !== undefined) conditions.push(sql`tenant_id = ${tenantId}`);
  if (code !== undefined) conditions.push(sql`code = ${code}`);
  if (rowIds !== undefined) conditions.push(sql`row_id = ANY(${sql.param(rowIds)}::text[])`);
  return sql.join(conditions, sql` AND `);
}
