/** Statements that delete what has had its time. Each deletes a bounded number of rows and says how many. */
import { type SQL, sql } from 'drizzle-orm';
import type { Db } from './client.ts';

/** Row ids of a batch are asked for when a run is looked into: that is soon. The watch makes a batch every few seconds. */
const BATCH_AGE = sql.raw("interval '7 days'");
const WATCH_BATCH_AGE = sql.raw("interval '1 day'");
const SAMPLE_AGE = sql.raw("interval '90 days'");

const daysAgo = (days: number): SQL => sql`now() - make_interval(days => ${days}::int)`;

async function deleteSome(db: Db, table: SQL, where: SQL, limit: number): Promise<number> {
  // By place: whatever the key is, and without looking a row up twice.
  const rows = await db.execute(sql`
    DELETE FROM ${table} WHERE ctid = ANY(ARRAY(SELECT d.ctid FROM ${table} d WHERE ${where} LIMIT ${limit}))
    RETURNING 1`);
  return rows.length;
}

/**
 * Row ids of batches that ended long ago, of settled runs and of earlier generations. The run keeps its figures. Batches of an
 * unsettled run's present generation stay: its progress goes by them.
 */
export function deleteOldBatches(db: Db, days: number, limit: number): Promise<number> {
  const age = sql`CASE WHEN r.origin = 'watch' THEN least(${WATCH_BATCH_AGE}, make_interval(days => ${days}::int))
                       ELSE least(${BATCH_AGE}, make_interval(days => ${days}::int)) END`;
  const old = sql`
    EXISTS (SELECT 1 FROM infill.runs r
             WHERE r.run_id = d.run_id AND (r.settled_at IS NOT NULL OR d.generation < r.generation)
               AND coalesce(d.ended_at, r.settled_at, r.created_at) < now() - ${age})`;
  return deleteSome(db, sql`infill.run_batches`, old, limit);
}

/** Settled runs with their tenants, once their batches are gone. */
export function deleteOldRuns(db: Db, days: number, limit: number): Promise<number> {
  const old = sql`
    d.settled_at < ${daysAgo(days)}
    AND NOT EXISTS (SELECT 1 FROM infill.run_batches b WHERE b.run_id = d.run_id)`;
  return deleteSome(db, sql`infill.runs`, old, Math.min(limit, RUNS_AT_ONCE));
}

/** Each takes its tenants with it, which may be thousands. */
const RUNS_AT_ONCE = 20;

/** Events that are still to be delivered stay. */
export function deleteOldAudit(db: Db, days: number, limit: number): Promise<number> {
  return deleteSome(
    db,
    sql`infill.audit_events`,
    sql`d.at < ${daysAgo(days)} AND d.deliver_at IS NULL`,
    limit,
  );
}

/** Those that still wait stay. */
export function deleteOldRequests(db: Db, days: number, limit: number): Promise<number> {
  return deleteSome(
    db,
    sql`infill.run_requests`,
    sql`d.requested_at < ${daysAgo(days)} AND d.status <> 'waiting'`,
    limit,
  );
}

export function deleteOldSamples(db: Db, limit: number): Promise<number> {
  return deleteSome(db, sql`infill.coverage_samples`, sql`d.at < now() - ${SAMPLE_AGE}`, limit);
}

/** After two days one sample an hour is kept, after two weeks one a day: the one that had the most missing rows. */
export function thinSamples(db: Db, limit: number): Promise<number> {
  const sameSpan = (unit: string) =>
    sql`date_trunc(${sql.raw(`'${unit}'`)}, k.at) = date_trunc(${sql.raw(`'${unit}'`)}, d.at)`;
  const isWorse = sql`(k.missing, k.at) > (d.missing, d.at)`;
  const spare = sql`
    (d.at < now() - interval '2 days' AND EXISTS (
       SELECT 1 FROM infill.coverage_samples k
        WHERE k.target = d.target AND k.at BETWEEN d.at - interval '1 hour' AND d.at + interval '1 hour' AND ${sameSpan('hour')} AND ${isWorse}))
    OR (d.at < now() - interval '14 days' AND EXISTS (
       SELECT 1 FROM infill.coverage_samples k
        WHERE k.target = d.target AND k.at BETWEEN d.at - interval '1 day' AND d.at + interval '1 day' AND ${sameSpan('day')} AND ${isWorse}))`;
  return deleteSome(db, sql`infill.coverage_samples`, spare, limit);
}
