/** What a write leaves behind where the table has triggers, rules or policies: looks, and takes back what did not last. */
import { type SQL, sql } from 'drizzle-orm';
import type { CheckedTarget } from './catalog.ts';
import type { Db } from './client.ts';
import { type BatchKey, isBatch } from './run-batches.ts';
import { belongsTo, idOf, isGap, tableOf, textHashOf } from './target-sql.ts';
import { type EmbeddedRow, givenRows } from './target-writes.ts';

/**
 * Finds rows that were to be written in this transaction and still have a gap, of the text that was sent or in spite of being
 * written, and takes them out of what the batch and its tenant have as written or superseded. Selects their ids.
 *
 * In the transaction of the write, so that nobody ever sees them counted. Our own write holds the rows' locks, so it was nobody
 * else who undid it.
 */
export function undoneSql(target: CheckedTarget, batch: BatchKey, rows: readonly EmbeddedRow[]): SQL {
  const written = sql`coalesce((SELECT embedded_ids FROM infill.run_batches WHERE ${isBatch(batch)}), '{}'::text[])`;
  const among = (column: string) =>
    sql`(SELECT count(*)::int FROM unnest(b.${sql.identifier(column)}) AS a (id) WHERE a.id = ANY(lost.ids))`;
  const without = (column: string) =>
    sql`ARRAY(SELECT a.id FROM unnest(b.${sql.identifier(column)}) WITH ORDINALITY AS a (id, place) WHERE NOT a.id = ANY(lost.ids) ORDER BY a.place)`;
  const isThis = sql`b.run_id = ${batch.runId} AND b.tenant_id = ${batch.tenantId} AND b.generation = ${batch.generation} AND b.sequence = ${batch.sequence}`;
  return sql`
    WITH undone AS MATERIALIZED (
      SELECT e.id::text AS id FROM (${givenRows(target, rows)}) e
       WHERE EXISTS (SELECT 1 FROM ${tableOf(target)}
                      WHERE ${idOf(target)} = e.id AND ${belongsTo(target, batch.tenantId)} AND ${isGap(target)}
                        AND (${textHashOf(target)} = e.text_hash OR e.id::text = ANY(${written})))
    ), lost AS (
      SELECT array_agg(id) AS ids FROM undone HAVING count(*) > 0
    ), before AS (
      SELECT ${among('embedded_ids')} AS embedded, ${among('superseded_ids')} AS superseded
        FROM infill.run_batches b, lost WHERE ${isThis}
    ), changed AS (
      UPDATE infill.run_batches b SET embedded_ids = ${without('embedded_ids')}, superseded_ids = ${without('superseded_ids')}
        FROM lost WHERE ${isThis}
    ), counted AS (
      UPDATE infill.run_tenants p SET embedded = p.embedded - before.embedded, superseded = p.superseded - before.superseded
        FROM before WHERE p.run_id = ${batch.runId} AND p.tenant_id = ${batch.tenantId}
    )
    SELECT id AS "rowId" FROM undone`;
}

/** Whether a run has written anything that lasted. */
export async function hasEmbedded(db: Db, runId: string): Promise<boolean> {
  const rows = await db.execute(
    sql`SELECT 1 FROM infill.run_tenants WHERE run_id = ${runId} AND embedded > 0 LIMIT 1`,
  );
  return rows.length > 0;
}
