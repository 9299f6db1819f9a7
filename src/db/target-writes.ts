/** The one write on a user's table, as parts of the statement that also records it (`batch-parts.ts`). */
import { type SQL, sql } from 'drizzle-orm';
import { stampSql } from '../core/target-predicate.ts';
import { vectorArrayBytes } from '../core/vector-wire.ts';
import type { CheckedTarget } from './catalog.ts';
import { belongsTo, idOf, isGap, tableOf, textHashOf } from './target-sql.ts';

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
 * it moved to another tenant or out of the target's scope, or when it has an embedding of its text: it stays as it is, for the
 * next pass.
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
    target.vectorType,
  );
  const { ids, hashes } = keysOf(rows);
  // The target's own condition names columns without a table: no name here may be one of them.
  // Side by side in the select list, the arrays are read row by row. Joined by their places, they are compared row with row,
  // which took ten times as long (docs/benchmarks.md).
  return {
    ctes: sql`
    e AS (${givenRows(target, rows)}),
    written AS (
      UPDATE ${tableOf(target)} SET ${assignments(target)}
        FROM (SELECT unnest(${ids}::${sql.raw(target.idType)}[]) AS infill_id, unnest(${hashes}::text[]) AS infill_hash,
                     unnest(${sql.param(vectors)}::${sql.identifier(target.vectorSchema)}.${sql.identifier(target.vectorType)}[]) AS infill_vector) AS v
       WHERE ${isAllowed} AND ${idOf(target)} = v.infill_id AND ${belongsTo(target, tenantId)}
         AND ${isGap(target)} AND ${textHashOf(target)} = v.infill_hash
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
      SELECT e.id::text AS id, e.place, coalesce(found.outcome, 'gone') AS outcome
        FROM e LEFT JOIN LATERAL (
          SELECT CASE WHEN ${belongsTo(target, tenantId)} AND ${isGap(target)} AND ${textHashOf(target)} = e.text_hash
                      THEN 'embedded' ELSE 'superseded' END AS outcome
            FROM ${tableOf(target)} WHERE ${idOf(target)} = e.id) found ON true
       WHERE ${isAllowed})`,
  };
}

/** The vector, and beside it, in the same UPDATE, what it is of. The text is the one that was sent: the write compares it. */
function assignments(target: CheckedTarget): SQL {
  const vector = sql`${sql.identifier(target.embedding)} = v.infill_vector`;
  if (target.stamp === undefined) return vector;
  return sql`${vector}, ${sql.identifier(target.stamp)} = ${sql.raw(stampSql(target, 't.'))}`;
}

export function givenRows(target: CheckedTarget, rows: readonly EmbeddedRow[]): SQL {
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
