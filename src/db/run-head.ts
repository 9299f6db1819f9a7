/** What a run is to its batches: its own row, and nothing that is added up over its tenants. */
import { sql } from 'drizzle-orm';
import type { Db } from './client.ts';
import type { RunRecord } from './runs.ts';

export type RunHead = Pick<
  RunRecord,
  | 'runId'
  | 'target'
  | 'status'
  | 'generation'
  | 'dryRun'
  | 'batchSize'
  | 'includeUnverified'
  | 'rowLimit'
  | 'tenantIds'
  | 'planTenantIds'
  | 'window'
  | 'maxTokens'
  | 'maxCostUsd'
  | 'planned'
  | 'origin'
>;

export async function readRunHead(db: Db, runId: string): Promise<RunHead | undefined> {
  const rows = await db.execute<RunHead>(sql`
    SELECT run_id AS "runId", target, status, generation, dry_run AS "dryRun", batch_size AS "batchSize", include_unverified AS "includeUnverified",
           row_limit::float8 AS "rowLimit", tenant_ids AS "tenantIds", plan_tenant_ids AS "planTenantIds", "window",
           max_tokens::float8 AS "maxTokens", max_cost_usd AS "maxCostUsd", planned::float8 AS "planned", origin
      FROM infill.runs WHERE run_id = ${runId}`);
  return rows[0];
}

/** What a run has spent so far. Adds up all of its tenants: only for a run with a cap, and not for each batch. */
export async function readSpending(
  db: Db,
  runId: string,
): Promise<{ tokens: number; costUsd: number | null }> {
  const rows = await db.execute<{ tokens: number; costUsd: number | null }>(sql`
    SELECT coalesce(sum(tokens), 0)::float8 AS "tokens", sum(cost_usd) AS "costUsd"
      FROM infill.run_tenants p WHERE p.run_id = ${runId}
       AND NOT EXISTS (SELECT 1 FROM infill.tenant_credentials c WHERE c.tenant_id = p.tenant_id AND c.base_url IS NOT NULL)`);
  return rows[0] ?? { tokens: 0, costUsd: null };
}

/** Whether a run and a tenant of it are still at work in a generation. */
export async function isAtWork(
  db: Db,
  { runId, generation, tenantId }: { runId: string; generation: number; tenantId: string },
): Promise<boolean> {
  const rows = await db.execute(sql`
    SELECT 1 FROM infill.runs r JOIN infill.run_tenants p ON p.run_id = r.run_id
     WHERE r.run_id = ${runId} AND r.generation = ${generation} AND r.status = 'running'
       AND p.tenant_id = ${tenantId} AND p.generation = ${generation} AND p.status = 'running'`);
  return rows.length > 0;
}
