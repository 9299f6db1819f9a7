/** The one write on a user's table, as parts of the statement that also records it (`batch-parts.ts`). */
import { type SQL, sql } from 'drizzle-orm';
import { vectorArrayBytes } from '../core/vector-wire.ts';
import type { CheckedTarget } from './catalog.ts';
import { belongsTo, embeddingOf, idOf, tableOf, textHashOf } from './target-sql.ts';

export type EmbeddedRow = {
  readonly rowId: string;
  /** Hash of the text that was sent. */
  readonly textHash: string;
  readonly vector: Float32Array;
};

/**
 * Becomes of a row: `embedded`; `superseded`, when it has another text or tenant by now, or somebody else's embedding; `gone`, when
 * it was deleted.
 */
export type RowOutcome = 'embedded' | 'superseded' | 'gone';

/** The common table expressions of a write or a rehearsal: `outcome (id, place, outcome)` has a row for each given row. */
export type OutcomeSql = { readonly ctes: SQL };

/** No row at all. */
export const noOutcome: OutcomeSql = {
  ctes: sql`outcome AS (SELECT NULL::text AS id, NULL::bigint AS place, NULL::text AS outcome WHERE false)`,
};

/**
 * Writes embeddings and says of each row what became of it.
 *
 * Safe to repeat. A row is left alone when its text is no longer the text that was sent (compare-and-set on the hash), when
 * it moved to another tenant, or when it has an embedding: it stays as it is, for the next pass.
 *
 * @param rows each id at most once, at least one.
 * @param isAllowed holds for the whole write, or nothing is written.
 */
export function writeSql(
  target: CheckedTarget,
  tenantId: string,
  rows: readonly EmbeddedRow[],
  isAllowed: SQL,
): OutcomeSql {
  const vectors = vectorArrayBytes(
    rows.map(({ vector }) => vector),
    target.vectorOid,
  );
  const { ids, hashes } = keysOf(rows);
  // Side by side in the select list, the arrays are read row by row. Joined by their places, they are compared row with row,
  // which took ten times as long (docs/benchmarks.md).
  return {
    ctes: sql`
    e AS (${givenRows(target, rows)}),
    written AS (
      UPDATE ${tableOf(target)} SET ${sql.identifier(target.embedding)} = v.embedding
        FROM (SELECT unnest(${ids}::${sql.raw(target.idType)}[]) AS id, unnest(${hashes}::text[]) AS text_hash,
                     unnest(${sql.param(vectors)}::${sql.identifier(target.vectorSchema)}.vector[]) AS embedding) AS v
       WHERE ${isAllowed} AND ${idOf(target)} = v.id AND ${belongsTo(target, tenantId)}
         AND ${embeddingOf(target)} IS NULL AND ${textHashOf(target)} = v.text_hash
      RETURNING ${idOf(target)} AS id
    ),
    outcome AS (
      SELECT e.id::text AS id, e.place,
             CASE WHEN e.id IN (SELECT id FROM written) THEN 'embedded'
                  WHEN EXISTS (SELECT 1 FROM ${tableOf(target)} WHERE ${idOf(target)} = e.id) THEN 'superseded' ELSE 'gone' END AS outcome
        FROM e)`,
  };
}

/** Says which rows would have taken an embedding, by the same conditions as the write; changes nothing. */
export function rehearseSql(
  target: CheckedTarget,
  tenantId: string,
  rows: readonly EmbeddedRow[],
  isAllowed: SQL,
): OutcomeSql {
  return {
    ctes: sql`
    e AS (${givenRows(target, rows)}),
    outcome AS (
      SELECT e.id::text AS id, e.place,
             CASE WHEN ${idOf(target)} IS NULL THEN 'gone'
                  WHEN ${belongsTo(target, tenantId)} AND ${embeddingOf(target)} IS NULL AND ${textHashOf(target)} = e.text_hash
                  THEN 'embedded' ELSE 'superseded' END AS outcome
        FROM e LEFT JOIN ${tableOf(target)} ON ${idOf(target)} = e.id
       WHERE ${isAllowed})`,
  };
}

function givenRows(target: CheckedTarget, rows: readonly EmbeddedRow[]): SQL {
  const { ids, hashes } = keysOf(rows);
  return sql`
    SELECT id, text_hash, place
      FROM unnest(${ids}::${sql.raw(target.idType)}[], ${hashes}::text[]) WITH ORDINALITY AS e (id, text_hash, place)`;
}

function keysOf(rows: readonly EmbeddedRow[]) {
  return {
    ids: sql.param(rows.map(({ rowId }) => rowId)),
    hashes: sql.param(rows.map(({ textHash }) => textHash)),
  };
}
