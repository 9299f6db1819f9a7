/** Statements on `infill.run_tenants`: one tenant's part of a run. */
import { sql } from 'drizzle-orm';
import type { RunTenantStatus } from '../core/run.ts';
import type { Db } from './client.ts';

export type RunTenantKey = { readonly runId: string; readonly generation: number; readonly tenantId: string };

export type RunTenantRecord = {
  readonly tenantId: string;
  readonly status: RunTenantStatus;
  readonly reason: string | null;
  readonly generation: number;
  readonly pass: number;
  readonly admitted: number;
  readonly ended: number;
  readonly allowance: number | null;
  readonly planned: number;
  readonly embedded: number;
  readonly superseded: number;
  readonly gone: number;
  readonly quarantined: number;
  readonly failed: number;
  readonly remaining: number | null;
  readonly requests: number;
  readonly tokens: number;
  readonly costUsd: number | null;
};

/** Tenants of a generation that are not settled, in the order of their ids. */
export async function listUnsettledTenants(db: Db, runId: string, generation: number): Promise<string[]> {
  const rows = await db.execute<{ tenantId: string }>(sql`
    SELECT tenant_id AS "tenantId" FROM infill.run_tenants
     WHERE run_id = ${runId} AND generation = ${generation} AND status IN ('queued', 'running')
     ORDER BY tenant_id`);
  return rows.map((row) => row.tenantId);
}

/** Tenants of a run whose part has not succeeded, whatever their generation. */
export async function listOpenTenants(db: Db, runId: string): Promise<string[]> {
  const rows = await db.execute<{ tenantId: string }>(sql`
    SELECT tenant_id AS "tenantId" FROM infill.run_tenants
     WHERE run_id = ${runId} AND status <> 'succeeded' ORDER BY tenant_id`);
  return rows.map((row) => row.tenantId);
}

/** The first of `tenantIds` that the run has not planned; undefined when it has planned them all. */
export async function findUnplannedTenant(
  db: Db,
  runId: string,
  tenantIds: readonly string[],
): Promise<string | undefined> {
  const rows = await db.execute<{ tenantId: string }>(sql`
    SELECT wanted.tenant_id AS "tenantId" FROM unnest(${sql.param(tenantIds)}::text[]) AS wanted (tenant_id)
     WHERE NOT EXISTS (
       SELECT FROM infill.run_tenants t WHERE t.run_id = ${runId} AND t.tenant_id = wanted.tenant_id)
     LIMIT 1`);
  return rows[0]?.tenantId;
}

export async function readRunTenant(
  db: Db,
  runId: string,
  tenantId: string,
): Promise<RunTenantRecord | undefined> {
  return (await selectTenants(db, sql`run_id = ${runId} AND tenant_id = ${tenantId}`, 1))[0];
}

/** Tenants of a run in the order of their ids, after `after`. */
export async function listRunTenants(
  db: Db,
  runId: string,
  { after, limit }: { after: string | null; limit: number },
): Promise<RunTenantRecord[]> {
  return selectTenants(
    db,
    sql`run_id = ${runId} AND (${after}::text IS NULL OR tenant_id > ${after}::text)`,
    limit,
  );
}

/** How a run's tenants have ended: how many fell short, the first of them, and what all have left. */
export async function readTenantEnds(
  db: Db,
  runId: string,
  namedMax: number,
): Promise<{ tenants: { tenantId: string; reason: string | null }[]; short: number; remaining: number }> {
  const [totals] = await db.execute<{ short: number; remaining: number }>(sql`
    SELECT (count(*) FILTER (WHERE status <> 'succeeded'))::float8 AS "short", coalesce(sum(remaining), 0)::float8 AS "remaining"
      FROM infill.run_tenants WHERE run_id = ${runId}`);
  const tenants = await db.execute<{ tenantId: string; reason: string | null }>(sql`
    SELECT tenant_id AS "tenantId", reason FROM infill.run_tenants
     WHERE run_id = ${runId} AND status <> 'succeeded' ORDER BY tenant_id LIMIT ${namedMax}`);
  return { tenants: [...tenants], short: totals?.short ?? 0, remaining: totals?.remaining ?? 0 };
}

async function selectTenants(
  db: Db,
  where: ReturnType<typeof sql>,
  limit: number,
): Promise<RunTenantRecord[]> {
  const rows = await db.execute<RunTenantRecord>(sql`
    SELECT tenant_id AS "tenantId", status, reason, generation, pass, admitted, ended, allowance::float8 AS "allowance",
           planned::float8 AS "planned", embedded::float8 AS "embedded", superseded::float8 AS "superseded",
           gone::float8 AS "gone", quarantined::float8 AS "quarantined", failed::float8 AS "failed",
           remaining::float8 AS "remaining", requests::float8 AS "requests", tokens::float8 AS "tokens",
           cost_usd AS "costUsd"
      FROM infill.run_tenants WHERE ${where} ORDER BY tenant_id LIMIT ${limit}`);
  return [...rows];
}

/** Marks a tenant's part as begun. Returns false when it is settled or belongs to another generation. */
export async function beginTenant(db: Db, key: RunTenantKey): Promise<boolean> {
  const rows = await db.execute(sql`
    UPDATE infill.run_tenants SET status = 'running'
     WHERE ${isPart(key)} AND status IN ('queued', 'running') RETURNING 1`);
  return rows.length > 0;
}

/** Starts the tenant's next pass from its first row. Returns false when that pass was begun before. */
export async function beginPass(db: Db, key: RunTenantKey, pass: number): Promise<boolean> {
  const rows = await db.execute(sql`
    UPDATE infill.run_tenants SET pass = ${pass}, cursor = NULL, pass_end = NULL, ended = admitted
     WHERE ${isPart(key)} AND status = 'running' AND pass = ${pass - 1} RETURNING 1`);
  return rows.length > 0;
}

/** Says why a tenant's part is held; null that it is not. Returns whether that is news. */
export async function setHoldReason(db: Db, key: RunTenantKey, reason: string | null): Promise<boolean> {
  const rows = await db.execute(sql`
    UPDATE infill.run_tenants SET hold_reason = ${reason}
     WHERE ${isPart(key)} AND hold_reason IS DISTINCT FROM ${reason}::text RETURNING 1`);
  return rows.length > 0;
}

/** Says that no batch is under way: claims whose job was lost no longer fill the window. */
export async function closeWindow(db: Db, key: RunTenantKey): Promise<void> {
  await db.execute(sql`UPDATE infill.run_tenants SET ended = admitted WHERE ${isPart(key)}`);
}

/**
 * Settles a tenant's part. Returns false when it was settled before, or is in another generation; the figure of what is
 * left is brought up to date in any case.
 */
export async function settleTenant(
  db: Db,
  key: RunTenantKey,
  outcome: {
    status: Exclude<RunTenantStatus, 'queued' | 'running'>;
    reason: string | null;
    remaining: number | null;
  },
): Promise<boolean> {
  const rows = await db.execute(sql`
    UPDATE infill.run_tenants
       SET status = ${outcome.status}, reason = ${outcome.reason}, settled_at = now(),
           remaining = coalesce(${outcome.remaining}::bigint, remaining)
     WHERE ${isPart(key)} AND status IN ('queued', 'running') RETURNING 1`);
  if (rows.length === 0 && outcome.remaining !== null) {
    await db.execute(
      sql`UPDATE infill.run_tenants SET remaining = ${outcome.remaining} WHERE ${isPart(key)}`,
    );
  }
  return rows.length > 0;
}

/** Settles all parts of a run that are not, unless the run has been planned anew: then they are somebody else's. */
export async function settleTenants(
  db: Db,
  { runId, generation }: { runId: string; generation: number },
  status: 'cancelled' | 'failed' | 'incomplete',
  reason: string | null,
): Promise<void> {
  await db.execute(sql`
    UPDATE infill.run_tenants SET status = ${status}, reason = ${reason}, settled_at = now()
     WHERE run_id = ${runId} AND generation <= ${generation} AND status IN ('queued', 'running')
       AND EXISTS (SELECT 1 FROM infill.runs r WHERE r.run_id = ${runId} AND r.generation = ${generation})`);
}

export function isPart({ runId, generation, tenantId }: RunTenantKey) {
  return sql`run_id = ${runId} AND tenant_id = ${tenantId} AND generation = ${generation}`;
}
