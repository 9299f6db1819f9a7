/** Statements on `infill.runs` of those that start by themselves: by the watch, or because they were asked for in SQL. */
import { sql } from 'drizzle-orm';
import { originsOf, type RunStatus } from '../core/run.ts';
import type { Db } from './client.ts';

/** The ends from which the watch goes on with its run. One that failed, or that somebody cancelled, stays as it is. */
const REOPENED_FROM = originsOf('running').filter(
  (from: RunStatus) => from === 'succeeded' || from === 'incomplete',
);

export async function readUnsettledRunId(db: Db, target: string): Promise<string | undefined> {
  const rows = await db.execute<{ runId: string }>(sql`
    SELECT r.run_id AS "runId" FROM infill.runs r WHERE r.target = ${target} AND r.settled_at IS NULL`);
  return rows[0]?.runId;
}

/**
 * Locks the run of a target that has not begun yet and is for all of its rows, if there is one: whatever was committed before is
 * still to be found by its plan. Returns its id.
 */
export async function lockUnbegunRun(db: Db, target: string): Promise<string | undefined> {
  const rows = await db.execute<{ runId: string }>(sql`
    SELECT run_id AS "runId" FROM infill.runs
     WHERE target = ${target} AND status = 'queued' AND NOT dry_run AND tenant_ids IS NULL AND row_limit IS NULL
       AND max_tokens IS NULL AND max_cost_usd IS NULL
       FOR UPDATE`);
  return rows[0]?.runId;
}

/**
 * Takes up the newest run of the target's watch again, in its next generation, if it has settled well enough and is not older
 * than `hoursMax`. What it planned grows by what it finds now. Returns undefined when there is no such run.
 *
 * @throws {Error} that `isTargetTaken` knows, when the target has an unsettled run.
 */
export async function reopenWatchRun(
  db: Db,
  target: string,
  { planTenantIds, hoursMax }: { planTenantIds: readonly string[] | null; hoursMax: number },
): Promise<{ runId: string; generation: number } | undefined> {
  const rows = await db.execute<{ runId: string; generation: number }>(sql`
    UPDATE infill.runs
       SET status = 'running', generation = generation + 1, settled_at = NULL, reason = NULL, planned = NULL,
           plan_tenant_ids = ${sql.param(planTenantIds)}::text[]
     WHERE run_id = (SELECT run_id FROM infill.runs WHERE target = ${target} AND origin = 'watch' ORDER BY created_at DESC LIMIT 1)
       AND status = ANY(${sql.param(REOPENED_FROM)}::text[])
       AND created_at > now() - make_interval(hours => ${hoursMax})
    RETURNING run_id AS "runId", generation`);
  return rows[0];
}
