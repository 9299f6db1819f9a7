/** The tables of the schema `infill` that keep targets complete over time: what asks for runs by itself. */
import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  check,
  date,
  doublePrecision,
  index,
  integer,
  primaryKey,
  text,
  uuid,
} from 'drizzle-orm/pg-core';
import { count, infill, moment } from './schema.ts';

/** What the watch of a target knows: one row for each target that is watched. */
export const watches = infill.table('watches', {
  target: text('target').primaryKey(),
  /** When to look next. Ticks that were missed are one tick. */
  nextAt: moment('next_at').notNull().defaultNow(),
  /** When it looked last, and when it found a missing row last. */
  checkedAt: moment('checked_at'),
  foundAt: moment('found_at'),
  /** Since when there has been a gap, as far as the watch has seen; null while there is none. */
  gapSince: moment('gap_since'),
  /** The run that it started and has not looked at since. */
  runId: uuid('run_id'),
  /** Runs in a row of which some tenant, or all, got nothing. */
  fruitless: integer('fruitless').notNull().default(0),
  /** Tenants that got nothing, and are left out until `retryAt`. */
  stuckTenants: text('stuck_tenants').array().notNull().default(sql`'{}'::text[]`),
  retryAt: moment('retry_at'),
});

/** Runs that somebody asked for in SQL, by `infill.request_backfill`: one row for each call that was committed. */
export const runRequests = infill.table(
  'run_requests',
  {
    requestId: uuid('request_id').primaryKey().defaultRandom(),
    target: text('target').notNull(),
    /** Null for all tenants. */
    tenantId: text('tenant_id'),
    /** The role that was logged in. */
    requestedBy: text('requested_by').notNull(),
    requestedAt: moment('requested_at').notNull().defaultNow(),
    status: text('status', { enum: ['waiting', 'started', 'refused'] })
      .notNull()
      .default('waiting'),
    /** Why it was refused, in words. */
    reason: text('reason'),
    /** Whether it stays refused. Else a worker that knows its target takes it up, within a day. */
    isFinal: boolean('is_final').notNull().default(false),
    /** The run that serves it; other requests may share that run. */
    runId: uuid('run_id'),
    handledAt: moment('handled_at'),
  },
  (t) => [
    // Looked at every few seconds, in a table that only grows.
    index('run_requests_open').on(t.target, t.requestedAt).where(sql`status <> 'started'`),
  ],
);

/** What a tenant may spend in a month of UTC, over all targets. */
export const tenantBudgets = infill.table(
  'tenant_budgets',
  {
    tenantId: text('tenant_id').primaryKey(),
    maxTokens: bigint('max_tokens', { mode: 'number' }),
    /** US dollars. Counts where the price of the model is known. */
    maxCostUsd: doublePrecision('max_cost_usd'),
    updatedAt: moment('updated_at').notNull().defaultNow(),
  },
  () => [check('tenant_budgets_cap', sql`max_tokens IS NOT NULL OR max_cost_usd IS NOT NULL`)],
);

/** What was spent, by tenant, target and month. Outlives the runs that spent it. */
export const usageLedger = infill.table(
  'usage_ledger',
  {
    tenantId: text('tenant_id').notNull(),
    target: text('target').notNull(),
    /** The month's first day, in UTC. */
    month: date('month').notNull(),
    requests: count('requests'),
    tokens: count('tokens'),
    /** Null when the price of the model is not known. */
    costUsd: doublePrecision('cost_usd'),
    /** Rows that were embedded, or would have been in a dry run. */
    rows: count('rows'),
  },
  (t) => [
    primaryKey({ columns: [t.tenantId, t.target, t.month] }),
    index('usage_ledger_month').on(t.month, t.tenantId, t.target),
  ],
);

/** Tenants whose budget kept rows of a target from being filled: a run follows when they may spend again. */
export const budgetStops = infill.table(
  'budget_stops',
  {
    tenantId: text('tenant_id').notNull(),
    target: text('target').notNull(),
    since: moment('since').notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.target] })],
);

/** How the coverage of a target has been: a sample every few minutes, thinned out as it ages. */
export const coverageSamples = infill.table(
  'coverage_samples',
  {
    target: text('target').notNull(),
    at: moment('at').notNull().defaultNow(),
    missing: count('missing'),
    stale: count('stale'),
    unverified: count('unverified'),
    quarantined: count('quarantined'),
    unembeddable: count('unembeddable'),
    embedded: count('embedded'),
    estimated: boolean('estimated').notNull().default(false),
  },
  (t) => [primaryKey({ columns: [t.target, t.at] })],
);
