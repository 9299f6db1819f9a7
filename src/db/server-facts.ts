/** What an operator wants to know of the server. */
import { sql } from 'drizzle-orm';
import type { Target } from '../core/target.ts';
import type { Db } from './client.ts';

export type ServerFacts = {
  readonly version: string;
  /** Null where the extension is not installed in this database. */
  readonly vectorVersion: string | null;
  readonly isEncrypted: boolean;
  /** Over a socket or the loopback interface. */
  readonly isLocal: boolean;
  readonly nowMs: number;
};

export async function readServerFacts(db: Db): Promise<ServerFacts> {
  const rows = await db.execute<ServerFacts>(sql`
    SELECT current_setting('server_version') AS "version",
           (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS "vectorVersion",
           coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false) AS "isEncrypted",
           coalesce(host(inet_server_addr()) IN ('127.0.0.1', '::1'), true) AS "isLocal",
           (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS "nowMs"`);
  const [facts] = rows;
  if (facts === undefined) throw new Error('a SELECT without FROM has one row');
  return facts;
}

/** Triggers that run when an embedding is written, by name. */
export async function listTriggers(db: Db, { schema, table, embedding }: Target): Promise<string[]> {
  const rows = await db.execute<{ name: string }>(sql`
    SELECT g.tgname AS "name"
      FROM pg_trigger g
      JOIN pg_class c ON c.oid = g.tgrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = ${schema} AND c.relname = ${table} AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A')
       -- An update, of any column or of this one. Source: pg_trigger.h, TRIGGER_TYPE_UPDATE.
       AND g.tgtype & 16 = 16
       AND (g.tgattr::text = '' OR (SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = ${embedding}) = ANY(g.tgattr::int2[]))
     ORDER BY g.tgname`);
  return rows.map(({ name }) => name);
}
