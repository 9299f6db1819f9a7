import { fileURLToPath } from 'node:url';
import { drizzle } from 'drizzle-orm/postgres-js';
import { migrate as applyMigrations } from 'drizzle-orm/postgres-js/migrator';
import type postgres from 'postgres';
import { openClient } from './client.ts';

const MIGRATIONS_FOLDER = fileURLToPath(new URL('../../drizzle', import.meta.url));

/** Any number that nothing else in the database uses as an advisory lock: "infill" in ASCII. */
const MIGRATION_LOCK = 0x696e66696c6c;
const CLOSE_SECONDS_MAX = 5;

/**
 * Brings the schema `infill` up to date.
 *
 * Safe to repeat, and safe when several processes start at once: they queue behind one lock, and all but the first find
 * nothing to do. All or nothing: a migration that fails leaves the schema as it was. The lock is the transaction's: a pooler
 * keeps connections, and with them what a session has locked.
 */
export async function migrate(databaseUrl: string): Promise<void> {
  const options = { connectionsMax: 1, applicationName: 'infill-migrate' };
  // Nothing that a pooler refuses, and no bounds: a migration may have to queue behind another.
  const client = openClient(databaseUrl, options, { startup: {}, prepare: false });
  try {
    await client.begin(async (connection) => {
      await connection.unsafe(`SELECT pg_advisory_xact_lock(${MIGRATION_LOCK})`);
      // Drizzle wants to begin a transaction of its own: it gets a part of this one.
      const inside = Object.assign(connection, {
        options: client.options,
        begin: (work: (inner: postgres.TransactionSql) => Promise<unknown>) => connection.savepoint(work),
      });
      await applyMigrations(drizzle(inside as unknown as postgres.Sql), {
        migrationsFolder: MIGRATIONS_FOLDER,
        migrationsSchema: 'infill',
        migrationsTable: 'migrations',
      });
    });
  } finally {
    await client.end({ timeout: CLOSE_SECONDS_MAX });
  }
}
