/**
 * The schema `infill`: all that Infill keeps. The users' tables get nothing but their vectors.
 *
 * `drizzle-kit generate` writes a migration from this file; a person reads and edits it before it lands in `drizzle/`.
 */
import { sql } from 'drizzle-orm';
import {
  bigint,
  bigserial,
  boolean,
  check,
  customType,
  doublePrecision,
  index,
  integer,
  jsonb,
  pgSchema,
  primaryKey,
  text,
  timestamp,
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core';
import { RUN_ORIGINS, RUN_STATUSES, RUN_TENANT_STATUSES, SETTLED_STATUSES } from '../core/run.ts';

export const infill = pgSchema('infill');

const bytea = customType<{ data: Buffer; driverData: Buffer }>({ dataType: () => 'bytea' });
/** A limit as it is stored: 0 where nothing is limited, null where nobody has said. */
export function statedLimitOf(stored: number | null): number | 'unlimited' | null {
  return stored === 0 ? 'unlimited' : stored;
}

const statedLimit = customType<{ data: number | 'unlimited'; driverData: number }>({
  dataType: () => 'integer',
  toDriver: (limit) => (limit === 'unlimited' ? 0 : limit),
  fromDriver: (stored) => statedLimitOf(stored) ?? 'unlimited',
});
export const moment = (name: string) => timestamp(name, { withTimezone: true, mode: 'date' });
export const count = (name: string) => bigint(name, { mode: 'number' }).notNull().default(0);
const literals = (values: readonly string[]) => sql.raw(values.map((value) => `'${value}'`).join(', '));
const noIds = sql`'{}'::text[]`;

export const runs = infill.table(
  'runs',
  {
    runId: uuid('run_id').primaryKey(),
    target: text('target').notNull(),
    status: text('status', { enum: RUN_STATUSES as [string, ...string[]] }).notNull(),
    reason: text('reason'),
    /** Counts the plans: jobs of an older generation end without working. */
    generation: integer('generation').notNull().default(1),
    dryRun: boolean('dry_run').notNull(),
    batchSize: integer('batch_size').notNull(),
    /** What started the run. */
    origin: text('origin', { enum: RUN_ORIGINS }).notNull().default('api'),
    /** Whether rows that have an embedding and no stamp are work, too. */
    includeUnverified: boolean('include_unverified').notNull().default(false),
    /** Rows this run may work on; null for all. */
    rowLimit: bigint('row_limit', { mode: 'number' }),
    /** The tenants the run is for; null for all. */
    tenantIds: text('tenant_ids').array(),
    /** The tenants that a retry named: the present generation is for them only. Null for all of the run's. */
    planTenantIds: text('plan_tenant_ids').array(),
    /** Batches of one tenant on Redis; null lets it grow and shrink with the free capacity. */
    window: integer('window'),
    maxTokens: bigint('max_tokens', { mode: 'number' }),
    maxCostUsd: doublePrecision('max_cost_usd'),
    idempotencyKey: text('idempotency_key'),
    /** SHA-256 of the parameters that came with the idempotency key. */
    requestHash: text('request_hash'),
    /** Missing rows that the run set out to fill when it was planned first: at most its limit. Null until then. */
    planned: bigint('planned', { mode: 'number' }),
    /** Missing rows by the last count. Null until then. */
    remaining: bigint('remaining', { mode: 'number' }),
    /** Coverage of the target when the run was planned first, and when it settled. */
    coverageBefore: jsonb('coverage_before').$type<StoredCoverage>(),
    coverageAfter: jsonb('coverage_after').$type<StoredCoverage>(),
    createdAt: moment('created_at').notNull().defaultNow(),
    startedAt: moment('started_at'),
    settledAt: moment('settled_at'),
  },
  (t) => [
    // One unsettled run a target: the database refuses a second one, whoever asks.
    uniqueIndex('runs_unsettled_target')
      .on(t.target)
      .where(sql`status NOT IN (${literals(SETTLED_STATUSES)})`),
    uniqueIndex('runs_idempotency_key').on(t.idempotencyKey),
    // The watch looks for its own newest run at every fill.
    index('runs_watch').on(t.target, t.createdAt.desc()).where(sql`origin = 'watch'`),
    index('runs_newest').on(t.createdAt.desc(), t.runId.desc()),
    check('runs_status', sql`status IN (${literals(RUN_STATUSES)})`),
    check('runs_settled_at', sql`(settled_at IS NOT NULL) = (status IN (${literals(SETTLED_STATUSES)}))`),
  ],
);

/** Rows of a target by what can be said of their embedding: each is in one of the counts, and those in `stale` in `missing`, too. */
export type StoredCoverage = {
  readonly missing: number;
  /** Missing rows that have an embedding: of an earlier text or another model. */
  readonly stale: number;
  /** Rows that have an embedding and no stamp, where the target has a column for it. */
  readonly unverified: number;
  readonly quarantined: number;
  readonly unembeddable: number;
  readonly embedded: number;
  /** Whether a number comes from the statistics of the database, not from a count. */
  readonly estimated: boolean;
};

export const runTenants = infill.table(
  'run_tenants',
  {
    runId: uuid('run_id')
      .notNull()
      .references(() => runs.runId, { onDelete: 'cascade' }),
    tenantId: text('tenant_id').notNull(),
    status: text('status', { enum: RUN_TENANT_STATUSES }).notNull().default('queued'),
    reason: text('reason'),
    generation: integer('generation').notNull().default(1),
    /** Walks over the tenant's missing rows in this generation, from 1. */
    pass: integer('pass').notNull().default(1),
    /** Id of the last row that an admission claimed in this pass; null before the first. */
    cursor: text('cursor'),
    /** Id of the last row that was there when the pass began: what arrives behind it is left to the next. */
    passEnd: text('pass_end'),
    /** Rows the tenant may still claim under the run's limit; null for no limit. */
    allowance: bigint('allowance', { mode: 'number' }),
    /** Its rows fit one batch, which was admitted when the run was planned and settles the tenant: there is no tenant job. */
    whole: boolean('whole').notNull().default(false),
    /** Batches claimed and ended in this generation: their difference is what is under way. */
    admitted: integer('admitted').notNull().default(0),
    ended: integer('ended').notNull().default(0),
    planned: count('planned'),
    embedded: count('embedded'),
    superseded: count('superseded'),
    gone: count('gone'),
    quarantined: count('quarantined'),
    failed: count('failed'),
    remaining: bigint('remaining', { mode: 'number' }),
    /** Why the tenant is admitted nothing, or little, at the moment; null while nothing holds it. */
    holdReason: text('hold_reason'),
    requests: count('requests'),
    tokens: count('tokens'),
    /** Null when the price of the model is not known. */
    costUsd: doublePrecision('cost_usd'),
    settledAt: moment('settled_at'),
  },
  (t) => [
    primaryKey({ columns: [t.runId, t.tenantId] }),
    index('run_tenants_unsettled').on(t.runId).where(sql`status IN ('queued', 'running')`),
  ],
);

export const runBatches = infill.table(
  'run_batches',
  {
    runId: uuid('run_id').notNull(),
    tenantId: text('tenant_id').notNull(),
    generation: integer('generation').notNull(),
    sequence: integer('sequence').notNull(),
    /** The batch's rows: id greater than `afterId` (null: from the first), up to and with `throughId`. */
    afterId: text('after_id'),
    throughId: text('through_id').notNull(),
    requests: count('requests'),
    tokens: count('tokens'),
    embeddedIds: text('embedded_ids').array().notNull().default(noIds),
    supersededIds: text('superseded_ids').array().notNull().default(noIds),
    goneIds: text('gone_ids').array().notNull().default(noIds),
    quarantinedIds: text('quarantined_ids').array().notNull().default(noIds),
    /** Why each of `quarantinedIds` was set aside, at the same place. */
    quarantinedCodes: text('quarantined_codes').array().notNull().default(noIds),
    failedIds: text('failed_ids').array().notNull().default(noIds),
    /** Rows whose text was cut to what the model takes. */
    truncatedIds: text('truncated_ids').array().notNull().default(noIds),
    /** The last part that was added: a part whose commit was not heard of is not added again. */
    lastPart: uuid('last_part'),
    /** Failure code behind `failedIds`. */
    reason: text('reason'),
    /** Set once, when the batch ended in whatever way: the fence against ending it twice. */
    endedAt: moment('ended_at'),
  },
  (t) => [primaryKey({ columns: [t.runId, t.tenantId, t.generation, t.sequence] })],
);

export const quarantinedRows = infill.table(
  'quarantined_rows',
  {
    target: text('target').notNull(),
    rowId: text('row_id').notNull(),
    tenantId: text('tenant_id').notNull(),
    /** SHA-256 of the text that was refused: another text is tried again by itself. */
    textHash: text('text_hash').notNull(),
    /** The model's identity (`core/target.ts`); its name alone in rows of earlier versions. */
    model: text('model').notNull(),
    code: text('code').notNull(),
    /** What the provider said, cut to 500 characters; never the row's text. */
    message: text('message'),
    runId: uuid('run_id'),
    quarantinedAt: moment('quarantined_at').notNull().defaultNow(),
  },
  (t) => [
    primaryKey({ columns: [t.target, t.rowId] }),
    index('quarantined_rows_tenant').on(t.target, t.tenantId, t.rowId),
  ],
);

export const tenantCredentials = infill.table(
  'tenant_credentials',
  {
    tenantId: text('tenant_id').primaryKey(),
    /** As `credentials/seal.ts` makes it: bound to the tenant and to where and how the key is sent. */
    sealedKey: bytea('sealed_key').notNull(),
    fingerprint: text('fingerprint').notNull(),
    last4: text('last4').notNull(),
    baseUrl: text('base_url'),
    organization: text('organization'),
    /** Names alone: the values are sealed with the key. */
    apiKeyHeader: text('api_key_header'),
    headerNames: text('header_names').array().notNull().default(noIds),
    /** What the provider calls the target's model; null: as the target does. */
    model: text('model'),
    requestsPerMinute: statedLimit('requests_per_minute'),
    tokensPerMinute: statedLimit('tokens_per_minute'),
    weight: doublePrecision('weight').notNull().default(1),
    status: text('status').notNull().default('unchecked'),
    statusReason: text('status_reason'),
    statusSince: moment('status_since').notNull().defaultNow(),
    checkedAt: moment('checked_at'),
    updatedAt: moment('updated_at').notNull().defaultNow(),
  },
  (t) => [check('tenant_credentials_weight', sql`${t.weight} > 0`)],
);

export const auditEvents = infill.table(
  'audit_events',
  {
    eventId: bigserial('event_id', { mode: 'number' }).primaryKey(),
    at: moment('at').notNull().defaultNow(),
    /** `x-actor`, an address, or the process that did it by itself. */
    actor: text('actor').notNull(),
    action: text('action').notNull(),
    runId: uuid('run_id'),
    subject: text('subject'),
    details: jsonb('details').$type<Record<string, unknown>>(),
    /** When the event is to be posted to the webhook next; null when it is not, or was. */
    deliverAt: moment('deliver_at'),
    deliveryAttempts: integer('delivery_attempts').notNull().default(0),
  },
  (t) => [
    index('audit_events_run').on(t.runId, t.eventId),
    // Looked at every few seconds, in a table that only grows.
    index('audit_events_due').on(t.deliverAt).where(sql`deliver_at IS NOT NULL`),
  ],
);

/** One row: the name of this database, by which Redis knows whose keys it holds. */
export const installation = infill.table(
  'installation',
  {
    /** True in the one row. */
    only: boolean('only').primaryKey().default(true),
    installationId: uuid('installation_id').notNull().defaultRandom(),
  },
  (t) => [check('installation_only', sql`${t.only}`)],
);

/** A lease is held by one process until its time is over; Postgres' clock counts. */
export const leases = infill.table('leases', {
  name: text('name').primaryKey(),
  holder: text('holder').notNull(),
  heldUntil: moment('held_until').notNull(),
});

/** Kill switches that are on: what they name admits nothing until they are off. */
export const switches = infill.table(
  'switches',
  {
    scope: text('scope', { enum: ['global', 'target', 'tenant'] }).notNull(),
    /** The target or the tenant; empty for the global switch. */
    name: text('name').notNull().default(''),
    reason: text('reason'),
    actor: text('actor').notNull(),
    since: moment('since').notNull().defaultNow(),
  },
  (t) => [
    primaryKey({ columns: [t.scope, t.name] }),
    check('switches_scope', sql`scope IN ('global', 'target', 'tenant')`),
  ],
);
