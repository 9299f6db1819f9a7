/** Statements on `infill.quarantined_rows`: rows whose text a provider refuses. */
import { type SQL, sql } from 'drizzle-orm';
import type { CheckedTarget } from './catalog.ts';
import type { Db } from './client.ts';
import { asId, idOf, isMissing, isOfModel, tableOf, textHashOf } from './target-sql.ts';

export type QuarantinedRow = {
  readonly target: string;
  readonly rowId: string;
  readonly tenantId: string;
  readonly textHash: string;
  /** The model's identity (`core/target.ts`); a list shows the model's name alone. */
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
export function quarantineSql(rows: readonly QuarantinedRow[]): SQL {
  const column = (name: keyof QuarantinedRow, type: string) =>
    sql`${sql.param(rows.map((row) => row[name]))}::${sql.raw(type)}[]`;
  return sql`
    INSERT INTO infill.quarantined_rows (target, row_id, tenant_id, text_hash, model, code, message, run_id)
    SELECT * FROM unnest(${column('target', 'text')}, ${column('rowId', 'text')}, ${column('tenantId', 'text')}, ${column('textHash', 'text')},
                         ${column('model', 'text')}, ${column('code', 'text')}, ${column('message', 'text')}, ${column('runId', 'uuid')})
    ON CONFLICT (target, row_id) DO UPDATE
       SET tenant_id = excluded.tenant_id, text_hash = excluded.text_hash, model = excluded.model, code = excluded.code,
           message = excluded.message, run_id = excluded.run_id, quarantined_at = now()`;
}

/** Rows of earlier versions hold the name alone. */
const modelName = sql`CASE WHEN model LIKE '{"dimensions":%' THEN model::jsonb ->> 'model' ELSE model END`;

/** Quarantined rows in the order of target and row id, after `after`. */
export async function listQuarantined(
  db: Db,
  filter: QuarantineFilter,
  { after, limit }: { after: { target: string; rowId: string } | null; limit: number },
): Promise<(QuarantinedRow & { quarantinedAt: string })[]> {
  const start = after === null ? sql`true` : sql`(target, row_id) > (${after.target}, ${after.rowId})`;
  const rows = await db.execute<QuarantinedRow & { quarantinedAt: string }>(sql`
    SELECT target, row_id AS "rowId", tenant_id AS "tenantId", text_hash AS "textHash", ${modelName} AS model, code, message,
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

/**
 * Counts rows that older generations of a run set aside, and that are so still, in its present one: without them its
 * figures would forget rows that it neither filled nor tries again.
 *
 * They are recorded as a batch of the number 0, which no other has. Safe to repeat: that record is made once.
 */
export async function keepQuarantined(
  db: Db,
  target: CheckedTarget,
  { runId, generation }: { runId: string; generation: number },
  tenantIds: readonly string[],
): Promise<void> {
  await db.execute(sql`
    WITH aside AS (
      SELECT q.tenant_id, array_agg(q.row_id ORDER BY q.row_id) AS ids, array_agg(q.code ORDER BY q.row_id) AS codes
        FROM infill.quarantined_rows q
       WHERE q.run_id = ${runId} AND q.target = ${target.name} AND q.tenant_id = ANY(${sql.param(tenantIds)}::text[])
         AND ${isOfModel(target)}
         AND EXISTS (SELECT 1 FROM ${tableOf(target)}
                      WHERE ${idOf(target)} = ${asId(target, sql`q.row_id`)} AND q.text_hash = ${textHashOf(target)} AND ${isMissing(target)})
         AND NOT EXISTS (SELECT FROM infill.run_batches b
                          WHERE b.run_id = ${runId} AND b.tenant_id = q.tenant_id AND b.generation = ${generation} AND q.row_id = ANY(b.quarantined_ids))
       GROUP BY q.tenant_id
    ), kept AS (
      INSERT INTO infill.run_batches (run_id, tenant_id, generation, sequence, through_id, quarantined_ids, quarantined_codes, ended_at)
      SELECT t.run_id, t.tenant_id, t.generation, 0, '', aside.ids, aside.codes, now()
        FROM aside JOIN infill.run_tenants t ON t.run_id = ${runId} AND t.tenant_id = aside.tenant_id
       WHERE t.generation = ${generation}
          ON CONFLICT DO NOTHING
      RETURNING tenant_id, cardinality(quarantined_ids) AS rows)
    UPDATE infill.run_tenants t SET quarantined = t.quarantined + kept.rows
      FROM kept WHERE t.run_id = ${runId} AND t.tenant_id = kept.tenant_id AND t.generation = ${generation}`);
}

function matches({ target, tenantId, code, rowIds }: QuarantineFilter): SQL {
  const conditions = [sql`true`];
  if (target !== undefined) conditions.push(sql`target = ${target}`);
  if (tenantId !== undefined) conditions.push(sql`tenant_id = ${tenantId}`);
  if (code !== undefined) conditions.push(sql`code = ${code}`);
  if (rowIds !== undefined) conditions.push(sql`row_id = ANY(${sql.param(rowIds)}::text[])`);
  return sql.join(conditions, sql` AND `);
}
