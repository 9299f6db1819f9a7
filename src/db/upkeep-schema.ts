/** The tables of the schema `infill` that keep targets complete over time: what asks for runs by itself. */
import { sql } from 'drizzle-orm';
import { boolean, index, text, uuid } from 'drizzle-orm/pg-core';
import { infill, moment } from './schema.ts';

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
