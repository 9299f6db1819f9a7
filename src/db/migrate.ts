import { fileURLToPath } from 'node:url';
import { sql } from 'drizzle-orm';
import { migrate as applyMigrations } from 'drizzle-orm/postgres-js/migrator';
import { openDatabase } from './client.ts';

const MIGRATIONS_FOLDER = fileURLToPath(new URL('../../drizzle', import.meta.url));

/** Any number that nothing else in the database uses as an advisory lock: "infill" in ASCII. */
const MIGRATION_LOCK = 0x696e66696c6c;

/**
 * Brings the schema `infill` up to date.
 *
 * Safe to repeat, and safe when several processes start at once: they queue behind one lock, and all but the first find
 * nothing to do. All or nothing: a migration that fails leaves the schema as it was.
 */
export async function migrate(databaseUrl: string): Promise<void> {
  // One connection, so that the lock and the migrations are of one session.
  const database = openDatabase(databaseUrl, {
    connectionsMax: 1,
    applicationName: 'infill-migrate',
    unbounded: true,
  });
  try {
    await database.db.execute(sql`SELECT pg_advisory_lock(${MIGRATION_LOCK})`);
    await applyMigrations(database.db as unknown as Parameters<typeof applyMigrations>[0], {
      migrationsFolder: MIGRATIONS_FOLDER,
      migrationsSchema: 'infill',
      migrationsTable: 'migrations',
    });
    await database.db.execute(sql`SELECT pg_advisory_unlock(${MIGRATION_LOCK})`);
  } finally {
    await database.close();
  }
}
