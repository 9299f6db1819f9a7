import { sql } from 'drizzle-orm';
import type { Db } from './client.ts';

/**
 * Reads as of one moment: `read` sees the database as it was when `onTaken` was called, whatever others write meanwhile.
 *
 * Rejects, without having called `onTaken`, when no snapshot could be taken.
 */
export function inSnapshot<Result>(
  db: Db,
  onTaken: () => void,
  read: (tx: Db) => Promise<Result>,
): Promise<Result> {
  return db.transaction(
    async (tx) => {
      // The first statement takes the snapshot.
      await tx.execute(sql`SELECT 1`);
      onTaken();
      return read(tx as unknown as Db);
    },
    { isolationLevel: 'repeatable read', accessMode: 'read only' },
  );
}

/** Does `work` in a transaction in which no statement may take longer than `statementMs`. */
export async function withStatementTimeout<Result>(
  db: Db,
  statementMs: number,
  work: (tx: Db) => Promise<Result>,
): Promise<Result> {
  return db.transaction(async (tx) => {
    await tx.execute(sql`SELECT set_config('statement_timeout', ${String(statementMs)}, true)`);
    return work(tx as unknown as Db);
  });
}
