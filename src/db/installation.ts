import { sql } from 'drizzle-orm';
import type { Db } from './client.ts';

/**
 * The name of this database: `<uuid>/<server>/<oid>`.
 *
 * The uuid is made by the migration, so a copy of the database has the same; the identifier of the server and the number of
 * the database tell the two apart. Where a role may not read the identifier, that part is empty.
 */
export async function readInstallationId(db: Db): Promise<string> {
  const [row] = await db.execute<{ id: string }>(sql`
    SELECT installation_id || '/' ||
           CASE WHEN has_function_privilege('pg_control_system()', 'EXECUTE')
                THEN (SELECT system_identifier::text FROM pg_control_system()) ELSE '' END || '/' ||
           (SELECT oid::text FROM pg_database WHERE datname = current_database()) AS id
      FROM infill.installation`);
  if (row === undefined) throw new Error('the table infill.installation has no row: run `npm run migrate`');
  return row.id;
}
