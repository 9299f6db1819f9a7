import { sql } from 'drizzle-orm';
import { databaseTrouble } from '../core/service-trouble.ts';
import type { Target } from '../core/target.ts';
import type { Db } from './client.ts';

/**
 * Has Postgres look at a target's condition, in a transaction that can change nothing, in a statement that reads no row.
 *
 * Returns why it is refused, or undefined. That it cannot end the statement around it was checked before
 * (`core/sql-condition.ts`).
 */
export async function conditionRefusal(db: Db, target: Target): Promise<string | undefined> {
  if (target.where === undefined) return undefined;
  const { schema, table, where } = target;
  try {
    await db.transaction(
      (tx) =>
        tx.execute(
          sql`SELECT 1 FROM ${sql.identifier(schema)}.${sql.identifier(table)} AS t WHERE (${sql.raw(where)}) LIMIT 0`,
        ),
      { accessMode: 'read only' },
    );
    return undefined;
  } catch (error) {
    const said = refusalOf(error);
    if (said === undefined) throw error;
    return `where is refused by Postgres: ${said}`;
  }
}

/** SQLSTATEs of five characters are Postgres' own; those of passing trouble say nothing about the condition. */
function refusalOf(error: unknown): string | undefined {
  if (databaseTrouble(error) !== undefined) return undefined;
  for (let at = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    const { code } = at as { code?: unknown };
    if (typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code)) return at.message;
  }
  return undefined;
}
