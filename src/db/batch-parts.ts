/** The transaction that records a part of a batch: what was written and counted, its end, and what comes next. */
import { type SQL, sql } from 'drizzle-orm';
import { ledgerSql } from './budgets.ts';
import type { CheckedTarget } from './catalog.ts';
import { type ClaimedRange, type ClaimOptions, claimSql, settleWholeSql } from './claims.ts';
import type { Lane, LaneRow } from './lane.ts';
import { type QuarantinedRow, quarantineSql } from './quarantine.ts';
import { type BatchKey, isBatch } from './run-batches.ts';
import { isPart } from './run-tenants.ts';
import type { KeyRange } from './target-rows.ts';
import { type EmbeddedRow, noOutcome, type OutcomeSql, rehearseSql, writeSql } from './target-writes.ts';
import { undoneSql } from './undone-rows.ts';

/** What one request, or the end of a batch, adds to the record. Lists are row ids. */
export type BatchPart = {
  /** Names the part: recorded again, also after the answer to a commit was lost, it counts once. */
  readonly partId: string;
  /** Each id at most once. */
  readonly rows: readonly EmbeddedRow[];
  readonly requests: number;
  readonly tokens: number;
  /** US dollars; null when the price of the model is not known. */
  readonly costUsd: number | null;
  readonly quarantined: readonly QuarantinedRow[];
  readonly truncated: readonly string[];
  /** Set when the batch ends with this part: the rows that were given up, and the failure's code. */
  readonly end: { readonly failed: readonly string[]; readonly reason: string | null } | null;
  /** Set when the tenant's next range is to be claimed in the same transaction. */
  readonly claim: ClaimOptions | null;
  /** Whether the tenant is settled in the same transaction if the batch was all it had. */
  readonly settlesWhole: boolean;
};

export type RecordedPart = {
  /** The range that was claimed, if one was. */
  readonly claimed: ClaimedRange | undefined;
  /** Batches of the tenant that are under way, the claimed one included. */
  readonly underWay: number;
  readonly settledWhole: boolean;
  /** Rows that were to be written and have a gap all the same. Looked at only where something of the table may do that. */
  readonly undone: readonly string[];
};

export type PartContext = {
  readonly target: CheckedTarget;
  readonly batch: BatchKey & KeyRange;
  readonly dryRun: boolean;
};

/** Longest that a write waits for a lock, and takes: whoever else uses the table must not queue up behind it. */
const LOCK_MS_MAX = 2_000;
const STATEMENT_MS_MAX = 15_000;
/** Our own tables are nobody else's, and a claim may hold the tenant's record while it looks through a table without index. */
const OWN_LOCK_MS_MAX = 15_000;

/**
 * Writes a part's rows, adds what became of them to the batch's record and to the tenant's counts, ends the batch if it is to
 * end, and claims the tenant's next range: one transaction and one round trip.
 *
 * Safe to repeat with the same `partId`: a part counts once, and so does a row that the record has already under an outcome. A
 * batch ends once in its generation. Whoever records something of a batch locks its record first, so that two processes that
 * both believe to run it (one of them woke up after its lock had expired) add their figures one after the other.
 */
export async function recordPart(lane: Lane, context: PartContext, part: BatchPart): Promise<RecordedPart> {
  const { batch, target, dryRun } = context;
  const statements: SQL[] = [lockSql(batch)];
  // A dry run only counts: it changes nothing that another run goes by.
  if (part.quarantined.length > 0 && !dryRun) statements.push(quarantineSql(part.quarantined));
  // Nothing in the rows tells that another plan has been through them: of an older one, nothing counts any more.
  if (dryRun) statements.push(sql`SELECT 1 FROM infill.run_tenants WHERE ${isPart(batch)} FOR NO KEY UPDATE`);
  statements.push(partSql(context, part));
  const looksAt = target.mayUndo && !dryRun && part.rows.length > 0 ? statements.length : null;
  if (looksAt !== null) statements.push(undoneSql(target, batch, part.rows));
  if (part.settlesWhole) statements.push(settleWholeSql(target, batch));
  if (part.claim !== null) statements.push(claimSql(target, batch, part.claim));

  const answers = await lane.transaction(statements, { lockMs: LOCK_MS_MAX, statementMs: STATEMENT_MS_MAX });
  const last = answers.at(-1) ?? [];
  const claimed = part.claim === null ? undefined : (last[0] as (ClaimedRange & LaneRow) | undefined);
  return {
    claimed,
    underWay: Number(claimed?.['underWay'] ?? 0),
    settledWhole: part.settlesWhole && last.length > 0,
    undone: looksAt === null ? [] : (answers[looksAt] ?? []).map((row) => String(row['rowId'])),
  };
}

/** Locks a batch's record for the rest of the transaction, creating it if it is not there. */
function lockSql(batch: BatchKey & KeyRange): SQL {
  return sql`
    INSERT INTO infill.run_batches AS b (run_id, tenant_id, generation, sequence, after_id, through_id)
    VALUES (${batch.runId}, ${batch.tenantId}, ${batch.generation}, ${batch.sequence}, ${batch.afterId}, ${batch.throughId})
    ON CONFLICT (run_id, tenant_id, generation, sequence) DO UPDATE SET sequence = excluded.sequence`;
}

function outcomeOf({ target, batch, dryRun }: PartContext, rows: readonly EmbeddedRow[]): OutcomeSql {
  if (rows.length === 0) return noOutcome;
  const isNew = sql`EXISTS (SELECT 1 FROM before)`;
  if (!dryRun) return writeSql(target, batch.tenantId, rows, isNew);
  const isPresent = sql`${isNew} AND EXISTS (SELECT 1 FROM infill.run_tenants WHERE ${isPart(batch)})`;
  return rehearseSql(target, batch.tenantId, rows, isPresent);
}

/**
 * The part's own statement. `before` is empty when the part was recorded already, and then nothing of it happens again.
 *
 * A row that this batch wrote is not superseded, or gone, when a second worker of the batch finds it written.
 */
function partSql(context: PartContext, part: BatchPart): SQL {
  const { batch } = context;
  const ends = part.end !== null;
  const ids = part.quarantined.map(({ rowId }) => rowId);
  const codes = part.quarantined.map(({ code }) => code);
  return sql`
    WITH before AS (
      SELECT embedded_ids, superseded_ids, gone_ids, quarantined_ids, ended_at
        FROM infill.run_batches WHERE ${isBatch(batch)} AND last_part IS DISTINCT FROM ${part.partId}::uuid
    ), ${outcomeOf(context, part.rows).ctes},
    fresh AS (
      SELECT ${newIds('embedded', sql`b.embedded_ids`)} AS embedded,
             ${newIds('superseded', sql`b.superseded_ids || b.embedded_ids`)} AS superseded,
             ${newIds('gone', sql`b.gone_ids || b.embedded_ids`)} AS gone,
             ARRAY(SELECT a.id FROM unnest(${sql.param(ids)}::text[]) AS a (id) WHERE NOT a.id = ANY(b.quarantined_ids)) AS quarantined,
             ARRAY(SELECT a.code FROM unnest(${sql.param(ids)}::text[], ${sql.param(codes)}::text[]) AS a (id, code)
                    WHERE NOT a.id = ANY(b.quarantined_ids)) AS codes,
             ${ends}::boolean AND b.ended_at IS NULL AS ends
        FROM before b
    ), recorded AS (
      UPDATE infill.run_batches b
         SET requests = b.requests + ${part.requests}, tokens = b.tokens + ${part.tokens},
             embedded_ids = b.embedded_ids || f.embedded, superseded_ids = b.superseded_ids || f.superseded,
             gone_ids = b.gone_ids || f.gone, quarantined_ids = b.quarantined_ids || f.quarantined,
             quarantined_codes = b.quarantined_codes || f.codes, truncated_ids = b.truncated_ids || ${sql.param(part.truncated)}::text[],
             last_part = ${part.partId}::uuid,
             ended_at = CASE WHEN f.ends THEN now() ELSE b.ended_at END,
             failed_ids = CASE WHEN f.ends THEN ${sql.param(part.end?.failed ?? [])}::text[] ELSE b.failed_ids END,
             reason = CASE WHEN f.ends THEN ${part.end?.reason ?? null}::text ELSE b.reason END
        FROM fresh f
       WHERE b.run_id = ${batch.runId} AND b.tenant_id = ${batch.tenantId} AND b.generation = ${batch.generation} AND b.sequence = ${batch.sequence}
      RETURNING f.*, set_config('lock_timeout', ${String(OWN_LOCK_MS_MAX)}, true) AS patience
    ), spent AS (${ledgerSql(batch.tenantId, context.target.name, part)})
    UPDATE infill.run_tenants p
       SET embedded = p.embedded + cardinality(r.embedded), superseded = p.superseded + cardinality(r.superseded),
           gone = p.gone + cardinality(r.gone), requests = p.requests + ${part.requests}, tokens = p.tokens + ${part.tokens},
           quarantined = p.quarantined + CASE WHEN p.generation = ${batch.generation} THEN cardinality(r.quarantined) ELSE 0 END,
           cost_usd = CASE WHEN ${part.costUsd}::float8 IS NULL THEN p.cost_usd ELSE coalesce(p.cost_usd, 0) + ${part.costUsd}::float8 END,
           ended = p.ended + CASE WHEN r.ends AND p.generation = ${batch.generation} THEN 1 ELSE 0 END,
           failed = p.failed + CASE WHEN r.ends AND p.generation = ${batch.generation} THEN ${part.end?.failed.length ?? 0} ELSE 0 END
      FROM recorded r
     WHERE p.run_id = ${batch.runId} AND p.tenant_id = ${batch.tenantId}`;
}

/** Ids with an outcome that the record does not have yet, in the order they were given in. */
function newIds(outcome: string, known: SQL): SQL {
  return sql`ARRAY(SELECT o.id FROM outcome o WHERE o.outcome = ${outcome} AND NOT o.id = ANY(${known}) ORDER BY o.place)`;
}
