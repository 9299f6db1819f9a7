/** Declares embeddings right that have no stamp: they get the stamp of their row's present text and the target's model. */
import { type SQL, sql } from 'drizzle-orm';
import { stampSql } from '../core/target-predicate.ts';
import type { CheckedTarget } from './catalog.ts';
import type { Db } from './client.ts';
import { isOfTenants } from './coverage.ts';
import { asId, embeddingOf, idOf, isInScope, stampOf, tableOf } from './target-sql.ts';

/** Rows of one statement: its locks are short, also where an index over the vectors makes each row slow. */
const ROWS_AT_ONCE = 500;
const LOCK_MS_MAX = 2_000;
const STATEMENT_MS_MAX = 15_000;

/**
 * Adopts unverified rows in small transactions until none is left or `deadlineMs` is past; the vectors stay as they are, and nothing
 * is sent. Returns how many it adopted.
 *
 * Safe to repeat and to interrupt: each row is adopted once. A row that is edited later is stale then.
 */
export async function adoptRows(
  db: Db,
  target: CheckedTarget,
  tenantIds: readonly string[] | null,
  deadlineMs: number,
): Promise<number> {
  const isUnverified = sql`${isOfTenants(target, tenantIds)} AND ${isInScope(target)} AND ${embeddingOf(target)} IS NOT NULL AND ${stampOf(target)} IS NULL`;
  let adopted = 0;
  for (let after: string | null = null; Date.now() < deadlineMs; ) {
    const page: { rows: number; lastId: string | null } = await adoptPage(db, target, isUnverified, after);
    adopted += page.rows;
    if (page.lastId === null) return adopted;
    after = page.lastId;
  }
  return adopted;
}

/** By keyset, so that rows that are locked or gone by the time of the write keep no page from the next. */
async function adoptPage(
  db: Db,
  target: CheckedTarget,
  isUnverified: SQL,
  after: string | null,
): Promise<{ rows: number; lastId: string | null }> {
  const isAfter = after === null ? sql`true` : sql`${idOf(target)} > ${asId(target, after)}`;
  return db.transaction(async (tx) => {
    await tx.execute(
      sql`SELECT set_config('lock_timeout', ${`${LOCK_MS_MAX}`}, true), set_config('statement_timeout', ${`${STATEMENT_MS_MAX}`}, true)`,
    );
    const rows = await tx.execute<{ rows: number; lastId: string | null }>(sql`
      WITH page AS (
        SELECT ${idOf(target)} AS id FROM ${tableOf(target)} WHERE ${isUnverified} AND ${isAfter}
         ORDER BY ${idOf(target)} LIMIT ${ROWS_AT_ONCE}
      ), adopted AS (
        UPDATE ${tableOf(target)} SET ${sql.identifier(target.stamp ?? '')} = ${sql.raw(stampSql(target, 't.'))}
         WHERE ${idOf(target)} IN (SELECT page.id FROM page) AND ${isUnverified}
        RETURNING 1)
      SELECT (SELECT count(*) FROM adopted)::float8 AS "rows",
             (SELECT page.id::text FROM page ORDER BY page.id DESC LIMIT 1) AS "lastId"`);
    return rows[0] ?? { rows: 0, lastId: null };
  });
}
