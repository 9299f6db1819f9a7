/** What a write leaves behind where the table has triggers, rules or policies: looks, and takes back what did not last. */
import { type SQL, sql } from 'drizzle-orm';
import type { CheckedTarget } from './catalog.ts';
import type { Db } from './client.ts';
import { type BatchKey, isBatch } from './run-batches.ts';
import { belongsTo, idOf, isGap, tableOf, textHashOf } from './target-sql.ts';
import { type EmbeddedRow, givenRows } from './target-writes.ts';

/**
 * Selects the ids of rows that were to be written in this transaction and still have a gap: of the text that was sent, or in spite
 * of being written. Our own write holds their locks, so it was nobody else.
 */
export function undoneSql(target: CheckedTarget, batch: BatchKey, rows: readonly EmbeddedRow[]): SQL {
  const written = sql`coalesce((SELECT embedded_ids FROM infill.run_batches WHERE ${isBatch(batch)}), '{}'::text[])`;
  return sql`
    SELECT e.id::text AS "rowId" FROM (${givenRows(target, rows)}) e
     WHERE EXISTS (SELECT 1 FROM ${tableOf(target)}
                    WHERE ${idOf(target)} = e.id AND ${belongsTo(target, batch.tenantId)} AND ${isGap(target)}
                      AND (${textHashOf(target)} = e.text_hash OR e.id::text = ANY(${written})))`;
}

/** Takes rows out of what a batch and its tenant have as written, or as superseded. Safe to repeat. */
export async function retractRows(db: Db, batch: BatchKey, rowIds: readonly string[]): Promise<void> {
  const ids = sql`${sql.param(rowIds)}::text[]`;
  const among = (column: string) =>
    sql`(SELECT count(*)::int FROM unnest(b.${sql.identifier(column)}) AS a (id) WHERE a.id = ANY(${ids}))`;
  const without = (column: string) =>
    sql`ARRAY(SELECT a.id FROM unnest(b.${sql.identifier(column)}) WITH ORDINALITY AS a (id, place) WHERE NOT a.id = ANY(${ids}) ORDER BY a.place)`;
  const isThis = sql`b.run_id = ${batch.runId} AND b.tenant_id = ${batch.tenantId} AND b.generation = ${batch.generation} AND b.sequence = ${batch.sequence}`;
  await db.execute(sql`
    WITH before AS (
      SELECT ${among('embedded_ids')} AS embedded, ${among('superseded_ids')} AS superseded
        FROM infill.run_batches b WHERE ${isThis} FOR UPDATE
    ), changed AS (
      UPDATE infill.run_batches b SET embedded_ids = ${without('embedded_ids')}, superseded_ids = ${without('superseded_ids')} WHERE ${isThis}
    )
    UPDATE infill.run_tenants p SET embedded = p.embedded - before.embedded, superseded = p.superseded - before.superseded
      FROM before WHERE p.run_id = ${batch.runId} AND p.tenant_id = ${batch.tenantId}`);
}

/** Whether a run has written anything that lasted. */
export async function hasEmbedded(db: Db, runId: string): Promise<boolean> {
  const rows = await db.execute(
    sql`SELECT 1 FROM infill.run_tenants WHERE run_id = ${runId} AND embedded > 0 LIMIT 1`,
  );
  return rows.length > 0;
}
