import { setTimeout as sleep } from 'node:timers/promises';
import postgres from 'postgres';

export type Statement = { readonly startedAtMs: number; readonly ms: number };

/** How often the server is asked: a statement's time is right to this, and shorter ones may be missed. */
const LOOK_EVERY_MS = 10;

/**
 * Watches the statements of an application from outside, as an operator would, until `stop`.
 *
 * Resolves then with those that were seen, in the order in which they began.
 */
export function watchStatements(
  databaseUrl: string,
  application: string,
  like: string,
): { stop(): Promise<Statement[]> } {
  const sql = postgres(databaseUrl, { max: 1 });
  const seen = new Map<string, Statement>();
  let stopped = false;

  const look = async () => {
    const rows = await sql<{ name: string; startedAtMs: number; ms: number }[]>`
      SELECT pid || ' ' || query_start AS name, extract(epoch FROM query_start)::float8 * 1000 AS "startedAtMs",
             extract(epoch FROM clock_timestamp() - query_start)::float8 * 1000 AS ms
        FROM pg_stat_activity
       WHERE datname = current_database() AND application_name = ${application} AND state = 'active'
         AND wait_event IS DISTINCT FROM 'ClientRead' AND query LIKE ${like}`;
    for (const { name, ...statement } of rows) seen.set(name, statement);
  };
  const watching = (async () => {
    while (!stopped) {
      await look();
      await sleep(LOOK_EVERY_MS);
    }
  })();

  return {
    async stop() {
      stopped = true;
      await watching;
      await sql.end();
      return [...seen.values()].toSorted((a, b) => a.startedAtMs - b.startedAtMs);
    },
  };
}
