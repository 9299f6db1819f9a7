/** Statements on `infill.run_requests`: runs that were asked for in SQL. */
import { sql } from 'drizzle-orm';
import type { Db } from './client.ts';

export type RunRequestRow = {
  readonly requestId: string;
  /** Null for all tenants. */
  readonly tenantId: string | null;
  readonly requestedBy: string;
};

/** What a request that was refused may still become: a worker that knows its target takes it up within this time. */
const REFUSED_FOR = sql.raw("interval '1 day'");
const isOpen = sql`(status = 'waiting' OR (status = 'refused' AND is_final = false AND requested_at > now() - ${REFUSED_FOR}))`;

/** Targets that requests wait for, those that were refused within a day included, in the order of their oldest request. */
export async function listRequestedTargets(db: Db): Promise<string[]> {
  const rows = await db.execute<{ target: string }>(sql`
    SELECT target FROM infill.run_requests WHERE ${isOpen} AND status <> 'started'
     GROUP BY target ORDER BY min(requested_at) LIMIT 1000`);
  return rows.map((row) => row.target);
}

/** Locks the oldest open requests of a target for the rest of the transaction; those that somebody else has are left out. */
export async function takeRequests(db: Db, target: string, limit: number): Promise<RunRequestRow[]> {
  const rows = await db.execute<RunRequestRow>(sql`
    SELECT request_id AS "requestId", tenant_id AS "tenantId", requested_by AS "requestedBy"
      FROM infill.run_requests WHERE target = ${target} AND status <> 'started' AND ${isOpen}
     ORDER BY requested_at LIMIT ${limit} FOR UPDATE SKIP LOCKED`);
  return [...rows];
}

/** Says which run serves the requests. */
export async function markStarted(db: Db, requestIds: readonly string[], runId: string): Promise<void> {
  await db.execute(sql`
    UPDATE infill.run_requests SET status = 'started', reason = NULL, run_id = ${runId}, handled_at = now()
     WHERE request_id = ANY(${sql.param(requestIds)}::text[]::uuid[])`);
}

/**
 * Refuses a target's waiting requests, all or those of `requestIds`. Returns the ids of those that were waiting.
 *
 * @param isFinal whether no worker will ever take them up; else one that knows the target does, within a day.
 */
export async function refuseRequests(
  db: Db,
  target: string,
  { reason, isFinal, requestIds }: { reason: string; isFinal: boolean; requestIds?: readonly string[] },
): Promise<string[]> {
  const isMeant =
    requestIds === undefined
      ? sql`status = 'waiting'`
      : sql`request_id = ANY(${sql.param(requestIds)}::text[]::uuid[])`;
  const rows = await db.execute<{ requestId: string }>(sql`
    UPDATE infill.run_requests SET status = 'refused', reason = ${reason}, is_final = ${isFinal}, handled_at = now()
     WHERE target = ${target} AND ${isMeant} RETURNING request_id AS "requestId"`);
  return rows.map((row) => row.requestId);
}
