/** Statements on `infill.watches`: what the watch of each target knows. */
import { sql } from 'drizzle-orm';
import type { Db } from './client.ts';

export type WatchState = {
  readonly target: string;
  /** The run that it started and has not looked at since. */
  readonly runId: string | null;
  readonly fruitless: number;
  /** Tenants to leave out for now. */
  readonly stuckTenants: readonly string[];
  /** Whether all tenants, or the stuck ones, may be tried again by now. */
  readonly isRetryDue: boolean;
  readonly gapSince: string | null;
  /** Time since the last look; null before the first. */
  readonly checkedAgoMs: number | null;
  /** Time since the last look that found a missing row; null when none did. */
  readonly foundAgoMs: number | null;
};

const moment = (column: string) =>
  sql.raw(`to_char(${column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`);

/** Makes the rows of targets that are watched and have none, and forgets those of targets that are not watched any more. */
export async function keepWatches(db: Db, targets: readonly string[]): Promise<void> {
  await db.execute(sql`
    INSERT INTO infill.watches (target) SELECT unnest(${sql.param(targets)}::text[]) ON CONFLICT DO NOTHING`);
}

/** The watches of `targets` that are due. */
export async function listDueWatches(db: Db, targets: readonly string[]): Promise<WatchState[]> {
  const rows = await db.execute<WatchState>(sql`
    SELECT target, run_id AS "runId", fruitless, stuck_tenants AS "stuckTenants",
           coalesce(retry_at <= now(), true) AS "isRetryDue", ${moment('gap_since')} AS "gapSince",
           extract(epoch FROM now() - checked_at)::float8 * 1000 AS "checkedAgoMs",
           extract(epoch FROM now() - found_at)::float8 * 1000 AS "foundAgoMs"
      FROM infill.watches WHERE target = ANY(${sql.param(targets)}::text[]) AND next_at <= now()`);
  return [...rows];
}

/** When to look next, from now. */
export async function postponeWatch(db: Db, target: string, delayMs: number): Promise<void> {
  await db.execute(sql`
    UPDATE infill.watches SET next_at = now() + make_interval(secs => ${delayMs / 1_000}) WHERE target = ${target}`);
}

/** Records a look: whether it found a missing row, and whether there is a gap from now on. Returns since when there is one. */
export async function recordLook(
  db: Db,
  target: string,
  { found, hasGap }: { found: boolean; hasGap: boolean },
): Promise<void> {
  await db.execute(sql`
    UPDATE infill.watches
       SET checked_at = now(), found_at = CASE WHEN ${found}::boolean THEN now() ELSE found_at END,
           gap_since = CASE WHEN ${hasGap}::boolean THEN coalesce(gap_since, now()) END
     WHERE target = ${target}`);
}

/** Remembers the run that the watch started, to see later what became of it. */
export async function rememberRun(db: Db, target: string, runId: string | null): Promise<void> {
  await db.execute(sql`UPDATE infill.watches SET run_id = ${runId}::uuid WHERE target = ${target}`);
}

/** Records what became of the watch's last run: who got nothing, and for how long they are left out. */
export async function recordFruit(
  db: Db,
  target: string,
  {
    fruitless,
    stuckTenants,
    retryInMs,
  }: { fruitless: number; stuckTenants: readonly string[]; retryInMs: number | null },
): Promise<void> {
  await db.execute(sql`
    UPDATE infill.watches
       SET run_id = NULL, fruitless = ${fruitless}, stuck_tenants = ${sql.param(stuckTenants)}::text[],
           retry_at = CASE WHEN ${retryInMs}::float8 IS NULL THEN NULL ELSE now() + make_interval(secs => ${retryInMs}::float8 / 1000) END
     WHERE target = ${target}`);
}

/** Tenants that a run's present generation planned, left with rows, and embedded nothing of. */
export async function listFruitlessTenants(
  db: Db,
  { runId, generation, limit }: { runId: string; generation: number; limit: number },
): Promise<string[]> {
  const rows = await db.execute<{ tenantId: string }>(sql`
    SELECT p.tenant_id AS "tenantId" FROM infill.run_tenants p
     WHERE p.run_id = ${runId} AND p.generation = ${generation} AND p.status <> 'succeeded'
       AND NOT EXISTS (SELECT 1 FROM infill.run_batches b
                        WHERE b.run_id = p.run_id AND b.tenant_id = p.tenant_id AND b.generation = p.generation
                          AND cardinality(b.embedded_ids) > 0)
     ORDER BY p.tenant_id LIMIT ${limit}`);
  return rows.map((row) => row.tenantId);
}
