/** Statements on `infill.runs`. */
import { type SQL, sql } from 'drizzle-orm';
import {
  originsOf,
  type RunOrigin,
  type RunStatus,
  SETTLED_STATUSES,
  type SettledStatus,
} from '../core/run.ts';
import type { Db } from './client.ts';
import { runs, type StoredCoverage } from './schema.ts';

export type NewRun = Pick<typeof runs.$inferInsert, 'idempotencyKey' | 'requestHash'> & {
  readonly runId: string;
  readonly target: string;
  readonly dryRun: boolean;
  readonly batchSize: number;
  readonly origin: RunOrigin;
  readonly rowLimit: number | null;
  readonly includeUnverified?: boolean | undefined;
  readonly tenantIds: string[] | null;
  readonly maxTokens: number | null;
  readonly maxCostUsd: number | null;
};

/** A run with its tenants' counts added up. Rows, requests and tokens are counts; costs are US dollars. */
export type RunRecord = {
  readonly runId: string;
  readonly target: string;
  readonly status: RunStatus;
  readonly reason: string | null;
  /** Why one of its tenants, the first by this text, is held at the moment; null while none is. */
  readonly holdReason: string | null;
  readonly generation: number;
  readonly dryRun: boolean;
  readonly batchSize: number;
  /** Whether rows that have an embedding and no stamp are work, too. */
  readonly includeUnverified: boolean;
  readonly origin: RunOrigin;
  readonly rowLimit: number | null;
  readonly tenantIds: readonly string[] | null;
  /** Tenants that the present generation is for, when a retry named some; null for all of `tenantIds`. */
  readonly planTenantIds: readonly string[] | null;
  readonly window: number | null;
  readonly maxTokens: number | null;
  readonly maxCostUsd: number | null;
  readonly requestHash: string | null;
  readonly planned: number | null;
  readonly embedded: number;
  readonly superseded: number;
  readonly gone: number;
  readonly quarantined: number;
  readonly failed: number;
  readonly remaining: number | null;
  readonly requests: number;
  readonly tokens: number;
  /** Null when the price of the model is not known or nothing was spent yet. */
  readonly costUsd: number | null;
  readonly tenantsTotal: number;
  readonly tenantsSettled: number;
  readonly coverageBefore: StoredCoverage | null;
  readonly coverageAfter: StoredCoverage | null;
  readonly createdAt: string;
  /** Time since then by Postgres' clock, in milliseconds. */
  readonly ageMs: number;
  readonly startedAt: string | null;
  readonly settledAt: string | null;
};

/**
 * Inserts a queued run.
 *
 * Returns false, and changes nothing, when the target has an unsettled run or the idempotency key is taken: the caller
 * reads which.
 */
export async function insertRun(db: Db, run: NewRun): Promise<boolean> {
  const inserted = await db
    .insert(runs)
    .values({ ...run, status: 'queued' })
    .onConflictDoNothing()
    .returning({ runId: runs.runId });
  return inserted.length > 0;
}

/** Takes back a run whose job could not be enqueued. Does nothing once a worker has begun it. */
export async function deleteQueuedRun(db: Db, runId: string): Promise<void> {
  await db.execute(sql`DELETE FROM infill.runs WHERE run_id = ${runId} AND status = 'queued'`);
}

export async function readRun(db: Db, runId: string): Promise<RunRecord | undefined> {
  return (await selectRuns(db, sql`r.run_id = ${runId}`, 1))[0];
}

export async function readRunByIdempotencyKey(db: Db, key: string): Promise<RunRecord | undefined> {
  return (await selectRuns(db, sql`r.idempotency_key = ${key}`, 1))[0];
}

export async function readUnsettledRun(db: Db, target: string): Promise<RunRecord | undefined> {
  return (await selectRuns(db, sql`r.target = ${target} AND ${isUnsettled}`, 1))[0];
}

export async function listUnsettledRuns(db: Db): Promise<RunRecord[]> {
  return selectRuns(db, isUnsettled, 1_000);
}

/** The newest runs first. `before` is the last run of the page before. */
export async function listRuns(
  db: Db,
  {
    before,
    limit,
    target,
    status,
  }: {
    before: { createdAt: string; runId: string } | null;
    limit: number;
    target?: string | undefined;
    status?: RunStatus | undefined;
  },
): Promise<RunRecord[]> {
  const isOf = target === undefined ? sql`true` : sql`r.target = ${target}`;
  const isNow = status === undefined ? sql`true` : sql`r.status = ${status}`;
  const after =
    before === null
      ? sql`true`
      : sql`(r.created_at, r.run_id) < (${before.createdAt}::timestamptz, ${before.runId}::uuid)`;
  return selectRuns(db, sql`${after} AND ${isOf} AND ${isNow}`, limit);
}

const isUnsettled = sql.raw(
  `r.status NOT IN (${SETTLED_STATUSES.map((status) => `'${status}'`).join(', ')})`,
);

async function selectRuns(db: Db, where: SQL, limit: number): Promise<RunRecord[]> {
  const moment = (column: string) =>
    sql.raw(`to_char(r.${column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`);
  const rows = await db.execute<RunRecord>(sql`
    SELECT r.run_id AS "runId", r.target, r.status, r.reason, r.generation,
           r.dry_run AS "dryRun", r.batch_size AS "batchSize", r.include_unverified AS "includeUnverified", r.origin, r.row_limit::float8 AS "rowLimit",
           r.tenant_ids AS "tenantIds", r.plan_tenant_ids AS "planTenantIds", r.window, r.max_tokens::float8 AS "maxTokens", r.max_cost_usd AS "maxCostUsd",
           r.request_hash AS "requestHash", r.planned::float8 AS "planned", r.remaining::float8 AS "remaining",
           s.*, r.coverage_before AS "coverageBefore", r.coverage_after AS "coverageAfter",
           ${moment('created_at')} AS "createdAt", extract(epoch FROM clock_timestamp() - r.created_at)::float8 * 1000 AS "ageMs", ${moment('started_at')} AS "startedAt",
           ${moment('settled_at')} AS "settledAt"
      FROM infill.runs r
     CROSS JOIN LATERAL (
       SELECT coalesce(sum(embedded), 0)::float8 AS "embedded", coalesce(sum(superseded), 0)::float8 AS "superseded",
              coalesce(sum(gone), 0)::float8 AS "gone", coalesce(sum(quarantined), 0)::float8 AS "quarantined",
              coalesce(sum(failed), 0)::float8 AS "failed", coalesce(sum(requests), 0)::float8 AS "requests",
              coalesce(sum(tokens), 0)::float8 AS "tokens", sum(cost_usd) AS "costUsd",
              min(hold_reason) FILTER (WHERE status IN ('queued', 'running')) AS "holdReason", count(*)::int AS "tenantsTotal",
              (count(*) FILTER (WHERE status NOT IN ('queued', 'running')))::int AS "tenantsSettled"
         FROM infill.run_tenants t WHERE t.run_id = r.run_id) s
     WHERE ${where}
     ORDER BY r.created_at DESC, r.run_id DESC
     LIMIT ${limit}`);
  // Drizzle hands json columns of raw statements over as text.
  return rows.map((row) => ({
    ...row,
    coverageBefore: parsed(row.coverageBefore),
    coverageAfter: parsed(row.coverageAfter),
  }));
}

function parsed(json: unknown): StoredCoverage | null {
  const coverage = typeof json === 'string' ? JSON.parse(json) : json;
  return coverage === null ? null : { stale: 0, unverified: 0, estimated: false, ...coverage };
}

/**
 * Moves a run to an unsettled status, if the table of transitions allows that from where it is.
 *
 * Returns false when it does not, or when the run's generation is not `generation` (if given): somebody else was first.
 *
 * @throws {Error} that `isTargetTaken` knows, when a settled run is to move and its target has an unsettled one.
 */
export async function moveRun(
  db: Db,
  runId: string,
  to: Exclude<RunStatus, SettledStatus>,
  { generation, planTenantIds }: { generation?: number; planTenantIds?: readonly string[] | null } = {},
): Promise<boolean> {
  const rows = await db.execute(sql`
    UPDATE infill.runs
       SET status = ${to}, started_at = coalesce(started_at, now()), settled_at = NULL, reason = NULL,
           plan_tenant_ids = CASE WHEN ${planTenantIds !== undefined} THEN ${sql.param(planTenantIds ?? null)}::text[] ELSE plan_tenant_ids END
     WHERE run_id = ${runId} AND status = ANY(${sql.param(originsOf(to))}::text[])
       AND (${generation ?? null}::int IS NULL OR generation = ${generation ?? null}::int)
    RETURNING run_id`);
  return rows.length > 0;
}

/** Whether `moveRun` threw because the target has an unsettled run by now. */
export function isTargetTaken(error: unknown): boolean {
  const { cause } = error as { cause?: { constraint_name?: unknown } };
  return cause?.constraint_name === 'runs_unsettled_target';
}

/** Settles a run: the one way to a settled status. Returns false when it was settled, or planned anew, meanwhile. */
export async function settleRun(
  db: Db,
  runId: string,
  to: SettledStatus,
  outcome: {
    generation?: number;
    reason: string | null;
    remaining: number | null;
    coverage: StoredCoverage | null;
  },
): Promise<boolean> {
  const rows = await db.execute(sql`
    UPDATE infill.runs
       SET status = ${to}, settled_at = now(), started_at = coalesce(started_at, now()), reason = ${outcome.reason},
           remaining = coalesce(${outcome.remaining}::bigint, remaining),
           coverage_after = ${outcome.coverage === null ? null : JSON.stringify(outcome.coverage)}::jsonb
     WHERE run_id = ${runId} AND status = ANY(${sql.param(originsOf(to))}::text[])
       AND (${outcome.generation ?? null}::int IS NULL OR generation = ${outcome.generation ?? null}::int)
    RETURNING run_id`);
  return rows.length > 0;
}

/**
 * Records what the first plan of a run found. Later plans leave it: the figure is what the run set out to do. Does nothing
 * when the run is not running in this generation any more.
 */
export async function recordPlan(
  db: Db,
  { runId, generation }: { runId: string; generation: number },
  plan: { planned: number; missing: number; coverage: StoredCoverage | null },
): Promise<void> {
  const coverage = plan.coverage === null ? null : JSON.stringify(plan.coverage);
  await db.execute(sql`
    UPDATE infill.runs
       SET planned = coalesce(planned, ${plan.planned} + CASE WHEN origin = 'watch' THEN (
               SELECT coalesce(sum(embedded + gone), 0) FROM infill.run_tenants p WHERE p.run_id = ${runId}) ELSE 0 END), remaining = ${plan.missing},
           coverage_before = coalesce(coverage_before, ${coverage}::jsonb)
     WHERE run_id = ${runId} AND generation = ${generation} AND status = 'running'`);
}

/**
 * Begins the next generation of a run and returns its number: the jobs of older ones end without working.
 *
 * Returns undefined when the run is not in one of `statuses`, or not in `generation`, any more. Each call begins another.
 */
export async function nextGeneration(
  db: Db,
  runId: string,
  { statuses, generation }: { statuses: readonly RunStatus[]; generation?: number },
): Promise<number | undefined> {
  const rows = await db.execute<{ generation: number }>(sql`
    UPDATE infill.runs SET generation = generation + 1
     WHERE run_id = ${runId} AND status = ANY(${sql.param(statuses)}::text[])
       AND (${generation ?? null}::int IS NULL OR generation = ${generation ?? null}::int)
    RETURNING generation`);
  return rows[0]?.generation;
}

/** What may be changed of an unsettled run. Left out: unchanged. */
export type RunChanges = {
  readonly batchSize?: number | undefined;
  readonly window?: number | null | undefined;
  readonly maxTokens?: number | null | undefined;
  readonly maxCostUsd?: number | null | undefined;
};

/** Changes an unsettled run, from the next admission on. Returns false when it is settled, or unknown. */
export async function changeRun(db: Db, runId: string, changes: RunChanges): Promise<boolean> {
  const known = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
  const changed = await db
    .update(runs)
    .set(known)
    .where(sql`run_id = ${runId} AND settled_at IS NULL`)
    .returning({ runId: runs.runId });
  return changed.length > 0;
}
