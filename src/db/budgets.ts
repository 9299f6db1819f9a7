/** Statements on `infill.tenant_budgets` and `infill.usage_ledger`: what tenants may spend in a month, and what they spent. */
import { type SQL, sql } from 'drizzle-orm';
import type { BudgetState } from '../core/budget.ts';
import type { Db } from './client.ts';

/** The first day of the present month, in UTC. */
const thisMonth = sql.raw("date_trunc('month', now() AT TIME ZONE 'UTC')::date");

export type Budget = { readonly maxTokens: number | null; readonly maxCostUsd: number | null };
export type BudgetRecord = Budget &
  Pick<BudgetState, 'month' | 'tokens' | 'costUsd' | 'rowsInHand'> & {
    readonly tenantId: string;
    readonly updatedAt: string;
  };

/** Sets a tenant's budget as a whole. */
export async function putBudget(db: Db, tenantId: string, { maxTokens, maxCostUsd }: Budget): Promise<void> {
  await db.execute(sql`
    INSERT INTO infill.tenant_budgets (tenant_id, max_tokens, max_cost_usd) VALUES (${tenantId}, ${maxTokens}, ${maxCostUsd})
    ON CONFLICT (tenant_id) DO UPDATE SET max_tokens = excluded.max_tokens, max_cost_usd = excluded.max_cost_usd, updated_at = now()`);
}

/** Returns whether there was one. */
export async function deleteBudget(db: Db, tenantId: string): Promise<boolean> {
  const rows = await db.execute(
    sql`DELETE FROM infill.tenant_budgets WHERE tenant_id = ${tenantId} RETURNING 1`,
  );
  return rows.length > 0;
}

const spent = (column: string) => sql`
  (SELECT coalesce(sum(u.${sql.identifier(column)}), 0) FROM infill.usage_ledger u WHERE u.tenant_id = b.tenant_id AND u.month = ${thisMonth})::float8`;
const rowsInHand = sql`
  (SELECT coalesce(sum((p.admitted - p.ended) * r.batch_size), 0)
     FROM infill.runs r JOIN infill.run_tenants p ON p.run_id = r.run_id AND p.generation = r.generation
    WHERE r.status = 'running' AND p.tenant_id = b.tenant_id AND p.status = 'running')::float8`;
const figures = sql`
  b.max_tokens::float8 AS "maxTokens", b.max_cost_usd AS "maxCostUsd", to_char(${thisMonth}, 'YYYY-MM') AS "month",
  ${spent('tokens')} AS "tokens", ${spent('cost_usd')} AS "costUsd", ${rowsInHand} AS "rowsInHand"`;

/** A tenant's budget and what the month has used of it; undefined when it has none. */
export async function readBudget(db: Db, tenantId: string): Promise<BudgetRecord | undefined> {
  const rows = await db.execute<BudgetRecord>(sql`
    SELECT b.tenant_id AS "tenantId", ${figures}, to_char(b.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS "updatedAt"
      FROM infill.tenant_budgets b WHERE b.tenant_id = ${tenantId}`);
  return rows[0];
}

/**
 * The state of a tenant's budget for an admission to a target; undefined when it has none. Locks the budget for the rest of the
 * transaction: two admissions that count the same rows in hand would share out the rest twice.
 */
export async function lockBudget(db: Db, tenantId: string, target: string): Promise<BudgetState | undefined> {
  // Locked first, and read by a statement of its own: that one sees what was admitted while this one waited.
  const locked = await db.execute(
    sql`SELECT 1 FROM infill.tenant_budgets WHERE tenant_id = ${tenantId} FOR UPDATE`,
  );
  if (locked.length === 0) return undefined;
  const rows = await db.execute<BudgetState>(sql`
    SELECT ${figures},
           (SELECT sum(u.tokens)::float8 / nullif(sum(u."rows"), 0) FROM infill.usage_ledger u
             WHERE u.tenant_id = b.tenant_id AND u.target = ${target}) AS "tokensPerRow"
      FROM infill.tenant_budgets b WHERE b.tenant_id = ${tenantId}`);
  return rows[0];
}

/** Those of `tenantIds` that have a budget. */
export async function listBudgeted(db: Db, tenantIds: readonly string[]): Promise<Set<string>> {
  const rows = await db.execute<{ tenantId: string }>(sql`
    SELECT tenant_id AS "tenantId" FROM infill.tenant_budgets WHERE tenant_id = ANY(${sql.param(tenantIds)}::text[])`);
  return new Set(rows.map((row) => row.tenantId));
}

/** Adds what a part of a batch spent to the ledger. Selects from `recorded`, which is empty when the part was recorded before. */
export function ledgerSql(
  tenantId: string,
  target: string,
  { requests, tokens, costUsd }: { requests: number; tokens: number; costUsd: number | null },
): SQL {
  return sql`
    INSERT INTO infill.usage_ledger AS u (tenant_id, target, month, requests, tokens, cost_usd, "rows")
    SELECT ${tenantId}::text, ${target}::text, ${thisMonth}, ${requests}::bigint, ${tokens}::bigint, ${costUsd}::float8, cardinality(r.embedded)
      FROM recorded r WHERE ${requests + tokens > 0}::boolean
    ON CONFLICT (tenant_id, target, month) DO UPDATE
       SET requests = u.requests + excluded.requests, tokens = u.tokens + excluded.tokens, "rows" = u."rows" + excluded."rows",
           cost_usd = CASE WHEN excluded.cost_usd IS NULL THEN u.cost_usd ELSE coalesce(u.cost_usd, 0) + excluded.cost_usd END`;
}

/** Remembers that a tenant's budget kept rows of a target from being filled. */
export async function recordBudgetStop(db: Db, tenantId: string, target: string): Promise<void> {
  await db.execute(sql`
    INSERT INTO infill.budget_stops (tenant_id, target) VALUES (${tenantId}, ${target}) ON CONFLICT DO NOTHING`);
}

/**
 * Asks for a run for each tenant that its budget had stopped and that may spend again: a new month began, or the cap was raised
 * or taken away. Returns how many. Each is asked for once, whoever calls.
 */
export async function resumeWithinBudgets(db: Db): Promise<number> {
  const rows = await db.execute(sql`
    WITH free AS (
      DELETE FROM infill.budget_stops s
       WHERE NOT EXISTS (SELECT 1 FROM infill.tenant_budgets b
                          WHERE b.tenant_id = s.tenant_id
                            AND (${spent('tokens')} >= b.max_tokens OR ${spent('cost_usd')} >= b.max_cost_usd))
      RETURNING s.target, s.tenant_id)
    INSERT INTO infill.run_requests (target, tenant_id, requested_by) SELECT target, tenant_id, 'budget' FROM free RETURNING 1`);
  return rows.length;
}

export type UsageRow = {
  readonly tenantId: string;
  readonly target: string;
  readonly requests: number;
  readonly tokens: number;
  /** Null when the price of the model is not known. */
  readonly costUsd: number | null;
  readonly rows: number;
  readonly maxTokens: number | null;
  readonly maxCostUsd: number | null;
};

export type UsageFilter = {
  /** As `2026-11`; null for the present month. */
  readonly month: string | null;
  readonly target: string | null;
  readonly tenantIds: readonly string[] | null;
};

const monthOf = ({ month }: UsageFilter) =>
  month === null ? sql`${thisMonth}` : sql`to_date(${month}, 'YYYY-MM')`;
const isMeant = (filter: UsageFilter) => sql`
  u.month = ${monthOf(filter)} AND (${filter.target}::text IS NULL OR u.target = ${filter.target}::text)
  AND (${sql.param(filter.tenantIds)}::text[] IS NULL OR u.tenant_id = ANY(${sql.param(filter.tenantIds)}::text[]))`;

/** What tenants spent on targets in a month, in the order of tenant and target, with the tenants' budgets. */
export async function listUsage(
  db: Db,
  filter: UsageFilter,
  { after, limit }: { after: { tenantId: string; target: string } | null; limit: number },
): Promise<UsageRow[]> {
  const isAfter =
    after === null
      ? sql`true`
      : sql`(u.tenant_id, u.target) > (${after.tenantId}::text, ${after.target}::text)`;
  const rows = await db.execute<UsageRow>(sql`
    SELECT u.tenant_id AS "tenantId", u.target, u.requests::float8 AS "requests", u.tokens::float8 AS "tokens", u.cost_usd AS "costUsd",
           u."rows"::float8 AS "rows", b.max_tokens::float8 AS "maxTokens", b.max_cost_usd AS "maxCostUsd"
      FROM infill.usage_ledger u LEFT JOIN infill.tenant_budgets b ON b.tenant_id = u.tenant_id
     WHERE ${isMeant(filter)} AND ${isAfter} ORDER BY u.tenant_id, u.target LIMIT ${limit}`);
  return [...rows];
}

export type UsageTotals = Pick<UsageRow, 'requests' | 'tokens' | 'costUsd' | 'rows'> & {
  readonly month: string;
};

export async function readUsageTotals(db: Db, filter: UsageFilter): Promise<UsageTotals> {
  const rows = await db.execute<UsageTotals>(sql`
    SELECT to_char(${monthOf(filter)}, 'YYYY-MM') AS "month", coalesce(sum(u.requests), 0)::float8 AS "requests",
           coalesce(sum(u.tokens), 0)::float8 AS "tokens", sum(u.cost_usd) AS "costUsd", coalesce(sum(u."rows"), 0)::float8 AS "rows"
      FROM infill.usage_ledger u WHERE ${isMeant(filter)}`);
  const [totals] = rows;
  if (totals === undefined) throw new Error('a sum is one row');
  return totals;
}
