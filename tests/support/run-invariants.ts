/** What holds of a run's records at any moment, whoever did what in whatever order. */
import type postgres from 'postgres';
import { isSettled, type RunStatus } from '../../src/core/run.ts';

type RunFacts = {
  status: RunStatus;
  reason: string | null;
  terminal: number;
  retried: number;
  openTenants: number;
};
type TenantFacts = {
  tenantId: string;
  counted: Record<string, number>;
  recorded: Record<string, number>;
  repeated: number;
};

/** Says which rules the records of a run break; an empty list when none. */
export async function brokenRules(sql: postgres.Sql, runId: string): Promise<string[]> {
  const [run] = await sql<RunFacts[]>`
    SELECT r.status, r.reason,
           (SELECT count(*)::int FROM infill.audit_events e WHERE e.run_id = r.run_id
               AND e.action IN ('run.succeeded', 'run.incomplete', 'run.cancelled', 'run.failed')) AS terminal,
           (SELECT count(*)::int FROM infill.audit_events e WHERE e.run_id = r.run_id AND e.action = 'run.retried') AS retried,
           (SELECT count(*)::int FROM infill.run_tenants t WHERE t.run_id = r.run_id
               AND t.status IN ('queued', 'running')) AS "openTenants"
      FROM infill.runs r WHERE r.run_id = ${runId}`;
  if (run === undefined) return [`run ${runId} is gone`];
  const broken: string[] = [];
  const settled = isSettled(run.status);
  // A retry begins at a settled status, so that each stands for one settlement before the present one.
  const settlements = run.retried + (settled ? 1 : 0);
  if (run.terminal !== settlements)
    broken.push(
      `${run.terminal} terminal events for ${settlements} settlements of a run that is ${run.status}`,
    );
  if (settled && run.openTenants > 0)
    broken.push(`${run.openTenants} unsettled tenants of a run that is ${run.status}`);
  if ((run.status === 'incomplete' || run.status === 'failed') && !run.reason)
    broken.push(`${run.status} without a reason`);
  for (const tenant of await tenantFacts(sql, runId)) {
    if (JSON.stringify(tenant.counted) !== JSON.stringify(tenant.recorded))
      broken.push(
        `tenant ${tenant.tenantId} counts ${JSON.stringify(tenant.counted)}, its batches ${JSON.stringify(tenant.recorded)}`,
      );
    if (tenant.repeated > 0)
      broken.push(`tenant ${tenant.tenantId} has ${tenant.repeated} rows twice in one list of a batch`);
  }
  return broken;
}

async function tenantFacts(sql: postgres.Sql, runId: string): Promise<TenantFacts[]> {
  const rows = await sql`
    SELECT t.tenant_id AS "tenantId", t.embedded, t.superseded, t.gone, t.quarantined, t.failed, t.requests, t.tokens,
           b.embedded AS "b_embedded", b.superseded AS "b_superseded", b.gone AS "b_gone", b.quarantined AS "b_quarantined",
           b.failed AS "b_failed", b.requests AS "b_requests", b.tokens AS "b_tokens", b.repeated
      FROM infill.run_tenants t
     CROSS JOIN LATERAL (
       SELECT coalesce(sum(cardinality(embedded_ids)), 0) AS embedded, coalesce(sum(cardinality(superseded_ids)), 0) AS superseded,
              coalesce(sum(cardinality(gone_ids)), 0) AS gone, coalesce(sum(cardinality(quarantined_ids)) FILTER (WHERE generation = t.generation), 0) AS quarantined,
              coalesce(sum(cardinality(failed_ids)) FILTER (WHERE generation = t.generation), 0) AS failed,
              coalesce(sum(requests), 0) AS requests, coalesce(sum(tokens), 0) AS tokens,
              coalesce(sum(cardinality(embedded_ids) - (SELECT count(DISTINCT id) FROM unnest(embedded_ids) id)
                         + (SELECT count(*) FROM unnest(superseded_ids || gone_ids) id WHERE id = ANY(embedded_ids))), 0) AS repeated
         FROM infill.run_batches WHERE run_id = t.run_id AND tenant_id = t.tenant_id) b
     WHERE t.run_id = ${runId}`;
  const names = ['embedded', 'superseded', 'gone', 'quarantined', 'failed', 'requests', 'tokens'];
  return rows.map((row) => ({
    tenantId: row.tenantId,
    counted: Object.fromEntries(names.map((name) => [name, Number(row[name])])),
    recorded: Object.fromEntries(names.map((name) => [name, Number(row[`b_${name}`])])),
    repeated: Number(row.repeated),
  }));
}
