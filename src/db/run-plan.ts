/** Statements that put tenants into a generation of a run. */
import { sql } from 'drizzle-orm';
import type { Db } from './client.ts';

/** A tenant as a plan of a run has it. */
export type PlannedTenant = {
  readonly tenantId: string;
  /** Missing rows; null where they have not been counted yet. */
  readonly rows: number | null;
  readonly allowance: number | null;
  /** Set when its rows fit one batch: the last of them. */
  readonly wholeThroughId: string | null;
};

/**
 * Puts tenants into a generation of a run, if the run is still running in it. Those whose rows fit one batch have that batch
 * claimed with it; the others have nothing claimed yet.
 *
 * Safe to repeat: a tenant that is in this generation already stays as it is. What older generations wrote stays counted;
 * what they failed at or quarantined is forgotten: it is tried again, or `keepQuarantined` counts it. Returns whether the run
 * is still running in this generation.
 */
export async function planTenants(
  db: Db,
  { runId, generation }: { runId: string; generation: number },
  tenants: readonly PlannedTenant[],
): Promise<boolean> {
  // The run's row is locked, so that it is not settled meanwhile: its settlement would miss these tenants.
  const rows = await db.execute(sql`
    WITH run AS (
      SELECT 1 FROM infill.runs WHERE run_id = ${runId} AND generation = ${generation} AND status = 'running' FOR SHARE
    ), planned AS (
      INSERT INTO infill.run_tenants AS t (run_id, tenant_id, generation, status, planned, remaining, allowance, whole, cursor, pass_end, admitted)
      SELECT ${runId}::uuid, p.tenant_id, ${generation}::int, CASE WHEN p.whole IS NULL THEN 'queued' ELSE 'running' END,
             coalesce(least(p.rows, p.allowance), 0), p.rows, p.allowance, p.whole IS NOT NULL, p.whole, p.whole,
             CASE WHEN p.whole IS NULL THEN 0 ELSE 1 END
        FROM run CROSS JOIN unnest(${sql.param(tenants.map((t) => t.tenantId))}::text[],
                    ${sql.param(tenants.map((t) => t.rows))}::bigint[],
                    ${sql.param(tenants.map((t) => t.allowance))}::bigint[],
                    ${sql.param(tenants.map((t) => t.wholeThroughId))}::text[]) AS p (tenant_id, rows, allowance, whole)
      ON CONFLICT (run_id, tenant_id) DO UPDATE
         SET generation = excluded.generation, status = excluded.status, reason = NULL, hold_reason = NULL, settled_at = NULL, pass = 1,
             cursor = excluded.cursor, pass_end = excluded.pass_end, whole = excluded.whole, allowance = excluded.allowance,
             admitted = excluded.admitted, ended = 0, failed = 0, quarantined = 0, remaining = excluded.remaining
       WHERE t.generation < excluded.generation
    )
    SELECT 1 FROM run`);
  return rows.length > 0;
}

/** Those of `tenantIds` that are unsettled in a generation, with the last row of those whose one batch was claimed by the plan. */
export async function listPlanned(
  db: Db,
  { runId, generation }: { runId: string; generation: number },
  tenantIds: readonly string[],
): Promise<{ tenantId: string; wholeThroughId: string | null }[]> {
  const rows = await db.execute<{ tenantId: string; wholeThroughId: string | null }>(sql`
    SELECT tenant_id AS "tenantId", CASE WHEN whole THEN pass_end END AS "wholeThroughId" FROM infill.run_tenants
     WHERE run_id = ${runId} AND generation = ${generation} AND status IN ('queued', 'running')
       AND tenant_id = ANY(${sql.param(tenantIds)}::text[])
     ORDER BY tenant_id`);
  return [...rows];
}

/**
 * Records how many rows each tenant had when the run was planned first. What a tenant has left by a later count of its own
 * stays.
 */
export async function recordPlannedRows(
  db: Db,
  { runId, generation }: { runId: string; generation: number },
  tenants: readonly { tenantId: string; rows: number }[],
): Promise<void> {
  await db.execute(sql`
    UPDATE infill.run_tenants p SET planned = c.rows, remaining = coalesce(p.remaining, c.rows)
      FROM unnest(${sql.param(tenants.map((t) => t.tenantId))}::text[], ${sql.param(tenants.map((t) => t.rows))}::bigint[]) AS c (tenant_id, rows)
     WHERE p.run_id = ${runId} AND p.generation = ${generation} AND p.tenant_id = c.tenant_id`);
}
