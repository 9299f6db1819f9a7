/** Tells a database whose schema `infill` is missing from one that is ready. */
import { sql } from 'drizzle-orm';
import type { Db } from './client.ts';

/** Resolves when Postgres answers and the tables are there; rejects with Postgres's own error otherwise. */
export async function checkSchema(db: Db): Promise<void> {
  await db.execute(sql`SELECT 1 FROM infill.runs LIMIT 1`);
}
