/** The one write on a user's table. */
import { sql } from 'drizzle-orm';
import { vectorText } from '../core/vector-text.ts';
import type { CheckedTarget } from './catalog.ts';
import type { Db } from './client.ts';
import { asId, belongsTo, embeddingOf, idOf, tableOf, textHashOf } from './target-sql.ts';

export type EmbeddedRow = {
  readonly rowId: string;
  /** Hash of the text that was sent. */
  readonly textHash: string;
  readonly vector: Float32Array;
};

export type WriteOutcome = {
  readonly rowId: string;
  /** superseded: the row has another text or tenant by now, or somebody else's embedding. gone: it was deleted. */
  readonly outcome: 'embedded' | 'superseded' | 'gone';
};

/**
 * Writes embeddings in one statement and says of each row what became of it.
 *
 * Safe to repeat. A row is left alone when its text is no longer the text that was sent (compare-and-set on the hash), when
 * it moved to another tenant, or when it has an embedding: it stays as it is, for the next pass.
 *
 * @param rows each id at most once.
 */
export async function writeEmbeddings(
  db: Db,
  target: CheckedTarget,
  tenantId: string,
  rows: readonly EmbeddedRow[],
): Promise<WriteOutcome[]> {
  if (rows.length === 0) return [];
  const vectorType = sql`${sql.identifier(target.vectorSchema)}.vector`;
  // VALUES took three quarters of the time of unnest over arrays of text (docs/benchmarks.md).
  const values = rows.map(
    (row) =>
      sql`(${asId(target, row.rowId)}, ${row.textHash}::text, ${vectorText(row.vector)}::${vectorType})`,
  );

  const outcomes = await db.execute<WriteOutcome>(sql`
    WITH e (id, text_hash, embedding) AS (VALUES ${sql.join(values, sql`, `)}),
    written AS (
      UPDATE ${tableOf(target)} SET ${sql.identifier(target.embedding)} = e.embedding
        FROM e
       WHERE ${idOf(target)} = e.id AND ${belongsTo(target, tenantId)}
         AND ${embeddingOf(target)} IS NULL AND ${textHashOf(target)} = e.text_hash
      RETURNING ${idOf(target)} AS id
    )
    SELECT e.id::text AS "rowId",
           CASE WHEN e.id IN (SELECT id FROM written) THEN 'embedded'
                WHEN EXISTS (SELECT 1 FROM ${tableOf(target)} WHERE ${idOf(target)} = e.id) THEN 'superseded' ELSE 'gone' END AS "outcome"
      FROM e`);
  return [...outcomes];
}

/** Says which rows would have taken an embedding, by the same conditions as the write; changes nothing. */
export async function rehearseEmbeddings(
  db: Db,
  target: CheckedTarget,
  tenantId: string,
  rows: readonly EmbeddedRow[],
): Promise<WriteOutcome[]> {
  if (rows.length === 0) return [];
  const values = rows.map((row) => sql`(${asId(target, row.rowId)}, ${row.textHash}::text)`);
  const outcomes = await db.execute<WriteOutcome>(sql`
    WITH e (id, text_hash) AS (VALUES ${sql.join(values, sql`, `)})
    SELECT e.id::text AS "rowId",
           CASE WHEN ${idOf(target)} IS NULL THEN 'gone'
                WHEN ${belongsTo(target, tenantId)} AND ${embeddingOf(target)} IS NULL AND ${textHashOf(target)} = e.text_hash
                THEN 'embedded' ELSE 'superseded' END AS "outcome"
      FROM e LEFT JOIN ${tableOf(target)} ON ${idOf(target)} = e.id`);
  return [...outcomes];
}
