/** Statements on `infill.run_tenants`: one tenant's part of a run. */
import { sql } from 'drizzle-orm';
import type { RunTenantStatus } from '../core/run.ts';
import type { CheckedTarget } from './catalog.ts';
import type { Db } from './client.ts';
import { asId, belongsTo, idOf, isWork, tableOf } from './target-sql.ts';

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

/** The rows that one batch is to embed, as an admission claimed them. */
export type ClaimedRange = {
  readonly sequence: number;
  readonly afterId: string | null;
  readonly throughId: string;
  /** Rows that were in the range. */
  readonly rows: number;
};

/**
 * Puts tenants into a generation of a run, with nothing claimed yet, if the run is still running in it.
 *
 * Safe to repeat: a tenant that is in this generation already stays as it is. What older generations wrote stays counted;
 * what they failed at or quarantined is forgotten: it is tried again, or `keepQuarantined` counts it.
 */
export async function planTenants(
  db: Db,
  { runId, generation }: { runId: string; generation: number },
  tenants: readonly { tenantId: string; rows: number; allowance: number | null }[],
): Promise<void> {
  if (tenants.length === 0) return;
  // The run's row is locked, so that it is not settled meanwhile: its settlement would miss these tenants.
  await db.execute(sql`
    WITH run AS (
      SELECT 1 FROM infill.runs WHERE run_id = ${runId} AND generation = ${generation} AND status = 'running' FOR SHARE)
    INSERT INTO infill.run_tenants AS t (run_id, tenant_id, generation, planned, remaining, allowance)
    SELECT ${runId}::uuid, p.tenant_id, ${generation}::int, least(p.rows, p.allowance), p.rows, p.allowance
      FROM run CROSS JOIN unnest(${sql.param(tenants.map((t) => t.tenantId))}::text[],
                  ${sql.param(tenants.map((t) => t.rows))}::bigint[],
                  ${sql.param(tenants.map((t) => t.allowance))}::bigint[]) AS p (tenant_id, rows, allowance)
    ON CONFLICT (run_id, tenant_id) DO UPDATE
       SET generation = excluded.generation, status = 'queued', reason = NULL, hold_reason = NULL, settled_at = NULL, pass = 1, cursor = NULL, pass_end = NULL,
           allowance = excluded.allowance, admitted = 0, ended = 0, failed = 0, quarantined = 0, remaining = excluded.remaining
     WHERE t.generation < excluded.generation`);
}

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

/**
 * Claims the next key range of a tenant, at most `rowsMax` rows, in one statement: two callers never get the same rows.
 *
 * Returns undefined when there is nothing to claim now: the pass is through, the window is full, the allowance is used up,
 * or the run or the tenant is not running in this generation. A claim that is lost before its job is enqueued is taken up
 * by the next pass. A pass goes up to the last row that was there when it began: otherwise rows that keep arriving at the
 * end would keep it, and the run, open for ever.
 */
export async function claimRange(
  db: Db,
  target: CheckedTarget,
  key: RunTenantKey,
  { rowsMax, window, exceptIds }: { rowsMax: number; window: number; exceptIds: ReturnType<typeof sql> },
): Promise<ClaimedRange | undefined> {
  const isNext = sql`${belongsTo(target, key.tenantId)} AND ${isWork(target)} AND NOT (${idOf(target)}::text = ANY(${exceptIds}))`;
  // Keyset, not OFFSET: rows leave this set as they are embedded. Two branches, because `cursor IS NULL OR id > cursor`
  // could not use the index and would step over every row that was written before.
  const rows = await db.execute<ClaimedRange>(sql`
    WITH mine AS (
      SELECT p.cursor, p.pass_end, least(${rowsMax}::bigint, p.allowance) AS rows_max
        FROM infill.run_tenants p JOIN infill.runs r ON r.run_id = p.run_id
       WHERE p.run_id = ${key.runId} AND p.tenant_id = ${key.tenantId} AND p.generation = ${key.generation}
         AND p.status = 'running' AND r.status = 'running' AND r.generation = p.generation
         AND p.admitted - p.ended < ${window}
         FOR UPDATE OF p
    ), walk AS (
      SELECT mine.cursor, mine.rows_max, CASE WHEN mine.cursor IS NOT NULL THEN mine.pass_end ELSE (
               SELECT ${idOf(target)}::text FROM ${tableOf(target)} WHERE ${isNext} ORDER BY ${idOf(target)} DESC LIMIT 1) END AS pass_end
        FROM mine
    ), next AS (
      SELECT array_agg(found.id::text ORDER BY found.id) AS ids
        FROM walk CROSS JOIN LATERAL (
          (SELECT ${idOf(target)} AS id FROM ${tableOf(target)} WHERE walk.cursor IS NULL AND ${isNext}
            ORDER BY ${idOf(target)} LIMIT walk.rows_max)
          UNION ALL
          (SELECT ${idOf(target)} AS id FROM ${tableOf(target)}
            WHERE ${idOf(target)} > ${asId(target, sql`walk.cursor`)} AND ${idOf(target)} <= ${asId(target, sql`walk.pass_end`)} AND ${isNext}
            ORDER BY ${idOf(target)} LIMIT walk.rows_max)) found
    )
    UPDATE infill.run_tenants p
       SET cursor = next.ids[cardinality(next.ids)], pass_end = walk.pass_end, admitted = p.admitted + 1,
           allowance = p.allowance - cardinality(next.ids)
      FROM walk, next
     WHERE p.run_id = ${key.runId} AND p.tenant_id = ${key.tenantId} AND p.generation = ${key.generation} AND cardinality(next.ids) > 0
    RETURNING p.admitted AS "sequence", walk.cursor AS "afterId", p.cursor AS "throughId", cardinality(next.ids) AS "rows"`);
  return rows[0];
}

/** Starts the tenant's next pass from its first row. Returns false when that pass was begun before. */
export async function beginPass(db: Db, key: RunTenantKey, pass: number): Promise<boolean> {
  const rows = await db.execute(sql`
    UPDATE infill.run_tenants SET pass = ${pass}, cursor = NULL, pass_end = NULL, ended = admitted
     WHERE ${isPart(key)} AND status = 'running' AND pass = ${pass - 1} RETURNING 1`);
  return rows.length > 0;
}

/** Whether a tenant's part is still in this generation. If so, it stays in it until the transaction ends. */
export async function keepGeneration(tx: Db, key: RunTenantKey): Promise<boolean> {
  const rows = await tx.execute(sql`SELECT 1 FROM infill.run_tenants WHERE ${isPart(key)} FOR NO KEY UPDATE`);
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

function isPart({ runId, generation, tenantId }: RunTenantKey) {
  return sql`run_id = ${runId} AND tenant_id = ${tenantId} AND generation = ${generation}`;
}
