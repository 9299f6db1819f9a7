import { sql } from 'drizzle-orm';
import type { Db } from './client.ts';

export type DatabaseHealth = {
  readonly connections: number;
  readonly connectionsMax: number;
  /** The slowest replica's lag, in milliseconds; null without replicas, or when the role may not see them. */
  readonly replicationLagMs: number | null;
};

/** How the database that a run writes to is doing. Needs no rights; sees replicas only as a member of `pg_monitor`. */
export async function readDatabaseHealth(db: Db): Promise<DatabaseHealth> {
  // By database, not by type: of other roles' connections only a member of pg_monitor is told the type.
  const rows = await db.execute<DatabaseHealth>(sql`
    SELECT (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL)::int AS "connections",
           current_setting('max_connections')::int AS "connectionsMax",
           (SELECT max(extract(epoch FROM replay_lag)) * 1000 FROM pg_stat_replication)::float8 AS "replicationLagMs"`);
  const [health] = rows;
  if (health === undefined) throw new Error('a query without FROM returned no row');
  return health;
}

/**
 * Ends transactions of our own processes that stand still: one that was frozen in the middle keeps its locks from all others.
 *
 * Postgres does so itself (`idle_in_transaction_session_timeout`) unless the process stopped between the parts of one
 * statement: then it counts as at work, and none of its timeouts looks (seen with PostgreSQL 17). Returns how many it ended.
 */
export async function endStalledTransactions(db: Db, olderThanMs: number): Promise<number> {
  const rows = await db.execute(sql`
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND usename = current_user AND starts_with(application_name, 'infill-')
       AND state <> 'idle' AND wait_event = 'ClientRead'
       AND xact_start < clock_timestamp() - make_interval(secs => ${olderThanMs / 1000})`);
  return rows.length;
}
