/** Statements on `infill.leases`: one process at a time does what a lease names. */
import { sql } from 'drizzle-orm';
import type { Db } from './client.ts';

/**
 * Takes or extends a lease for `ttlMs` milliseconds of Postgres' clock. Returns false while somebody else holds it.
 *
 * A row, not an advisory lock: it survives connection poolers, and a holder that died loses it by itself.
 */
export async function takeLease(
  db: Db,
  lease: { name: string; holder: string; ttlMs: number },
): Promise<boolean> {
  const rows = await db.execute(sql`
    INSERT INTO infill.leases AS l (name, holder, held_until)
    VALUES (${lease.name}, ${lease.holder}, now() + make_interval(secs => ${lease.ttlMs / 1000}))
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until
     WHERE l.holder = excluded.holder OR l.held_until < now()
    RETURNING 1`);
  return rows.length > 0;
}

/** Gives a lease back. Does nothing when somebody else holds it. */
export async function releaseLease(
  db: Db,
  { name, holder }: { name: string; holder: string },
): Promise<void> {
  await db.execute(sql`DELETE FROM infill.leases WHERE name = ${name} AND holder = ${holder}`);
}
