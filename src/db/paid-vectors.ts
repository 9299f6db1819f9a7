import { sql } from 'drizzle-orm';
import type { CheckedTarget } from './catalog.ts';
import type { Db } from './client.ts';
import { belongsTo, embeddingOf, idOf, isCurrent, tableOf, textHashOf } from './target-sql.ts';

/**
 * Reads the vectors of a tenant's rows, by the hash of the text that each row has by now. Rows that are gone, of another tenant, or
 * without a vector of their present text, as far as a stamp tells, are left out.
 */
export async function readPaidVectors(
  db: Db,
  target: CheckedTarget,
  tenantId: string,
  rowIds: readonly string[],
): Promise<ReadonlyMap<string, Float32Array>> {
  const rows = await db.execute<{ textHash: string; vector: string }>(sql`
    SELECT ${textHashOf(target)} AS "textHash", ${embeddingOf(target)}::text AS "vector"
      FROM ${tableOf(target)}
     WHERE ${idOf(target)} = ANY(${sql.param(rowIds)}::text[]::${sql.raw(target.idType)}[]) AND ${belongsTo(target, tenantId)}
       AND ${isCurrent(target)}`);
  return new Map(rows.map(({ textHash, vector }) => [textHash, Float32Array.from(JSON.parse(vector))]));
}
