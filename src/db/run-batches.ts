/** Statements on `infill.run_batches`: what became of each batch, once. */
import { type SQL, sql } from 'drizzle-orm';
import type { Db } from './client.ts';
import type { KeyRange } from './target-rows.ts';

export type BatchKey = {
  readonly runId: string;
  readonly generation: number;
  readonly tenantId: string;
  readonly sequence: number;
};

/** What one request, or the end of a batch, adds to the record. Lists are row ids. */
export type BatchPart = {
  readonly requests: number;
  readonly tokens: number;
  /** US dollars; null when the price of the model is not known. */
  readonly costUsd: number | null;
  readonly embedded: readonly string[];
  readonly superseded: readonly string[];
  readonly gone: readonly string[];
  readonly quarantined: readonly string[];
  /** Why each of `quarantined` was set aside, at the same place. */
  readonly quarantinedCodes: readonly string[];
  readonly truncated: readonly string[];
};

export const NOTHING: BatchPart = {
  requests: 0,
  tokens: 0,
  costUsd: null,
  embedded: [],
  superseded: [],
  gone: [],
  quarantined: [],
  quarantinedCodes: [],
  truncated: [],
};

type BatchRow = {
  endedAt: string | null;
  lastPart: string | null;
  embeddedIds: string[];
  supersededIds: string[];
  goneIds: string[];
  quarantinedIds: string[];
};

/**
 * Locks a batch's record for the rest of the transaction, creating it if it is not there, and returns it.
 *
 * Whoever records something of this batch takes the lock first, so that two processes that both believe to run it (one of
 * them woke up after its lock had expired) add their figures one after the other.
 */
async function lockBatch(tx: Db, key: BatchKey, range: KeyRange): Promise<BatchRow> {
  const rows = await tx.execute<BatchRow>(sql`
    INSERT INTO infill.run_batches AS b (run_id, tenant_id, generation, sequence, after_id, through_id)
    VALUES (${key.runId}, ${key.tenantId}, ${key.generation}, ${key.sequence}, ${range.afterId}, ${range.throughId})
    ON CONFLICT (run_id, tenant_id, generation, sequence) DO UPDATE SET sequence = excluded.sequence
    RETURNING b.ended_at AS "endedAt", b.last_part AS "lastPart", b.embedded_ids AS "embeddedIds", b.superseded_ids AS "supersededIds",
              b.gone_ids AS "goneIds", b.quarantined_ids AS "quarantinedIds"`);
  const row = rows[0];
  if (row === undefined) throw new Error('an upsert returned no row');
  return row;
}

/**
 * Adds what `write` did to the batch's record and to the tenant's counts, all in one transaction with the write itself.
 *
 * Safe to repeat with the same `partId`, also when the answer to a commit was lost: a part counts once, and so does a row
 * that the record has already under an outcome.
 */
export async function recordPart(
  db: Db,
  key: BatchKey,
  range: KeyRange,
  partId: string,
  write: (tx: Db) => Promise<BatchPart>,
): Promise<void> {
  await db.transaction(async (tx) => {
    await boundTransaction(tx as unknown as Db);
    const before = await lockBatch(tx as unknown as Db, key, range);
    if (before.lastPart === partId) return;
    const part = newIn(await write(tx as unknown as Db), before);
    await addToBatch(tx as unknown as Db, key, partId, part);
    await addToTenant(tx as unknown as Db, key, part);
  });
}

/** Longest that a write waits for a lock, and takes: whoever else uses the table must not queue up behind it. */
const LOCK_MS_MAX = 2_000;
/** Our own tables are nobody else's, and a claim may hold the tenant's record while it looks through a table without index. */
const OWN_LOCK_MS_MAX = 15_000;
const STATEMENT_MS_MAX = 15_000;

async function boundTransaction(tx: Db): Promise<void> {
  await tx.execute(sql`
    SELECT set_config('lock_timeout', ${String(LOCK_MS_MAX)}, true), set_config('statement_timeout', ${String(STATEMENT_MS_MAX)}, true)`);
}

/** `part` without the rows that the record holds already. */
function newIn(part: BatchPart, before: BatchRow): BatchPart {
  const without = (ids: readonly string[], known: readonly string[]) => {
    const seen = new Set(known);
    return ids.filter((id) => !seen.has(id));
  };
  const quarantined = without(part.quarantined, before.quarantinedIds);
  return {
    ...part,
    embedded: without(part.embedded, before.embeddedIds),
    // A row that this batch wrote is not superseded when a second worker of the batch finds it written.
    superseded: without(part.superseded, [...before.supersededIds, ...before.embeddedIds]),
    gone: without(part.gone, [...before.goneIds, ...before.embeddedIds]),
    quarantined,
    quarantinedCodes: quarantined.map((id) => part.quarantinedCodes[part.quarantined.indexOf(id)] ?? ''),
  };
}

async function addToBatch(tx: Db, key: BatchKey, partId: string, part: BatchPart): Promise<void> {
  await tx.execute(sql`
    UPDATE infill.run_batches
       SET requests = requests + ${part.requests}, tokens = tokens + ${part.tokens},
           embedded_ids = embedded_ids || ${sql.param(part.embedded)}::text[],
           superseded_ids = superseded_ids || ${sql.param(part.superseded)}::text[],
           gone_ids = gone_ids || ${sql.param(part.gone)}::text[],
           quarantined_ids = quarantined_ids || ${sql.param(part.quarantined)}::text[],
           quarantined_codes = quarantined_codes || ${sql.param(part.quarantinedCodes)}::text[], last_part = ${partId}::uuid,
           truncated_ids = truncated_ids || ${sql.param(part.truncated)}::text[]
     WHERE ${isBatch(key)}
    RETURNING set_config('lock_timeout', ${String(OWN_LOCK_MS_MAX)}, true)`);
}

async function addToTenant(tx: Db, key: BatchKey, part: BatchPart): Promise<void> {
  await tx.execute(sql`
    UPDATE infill.run_tenants
       SET embedded = embedded + ${part.embedded.length}, superseded = superseded + ${part.superseded.length},
           gone = gone + ${part.gone.length},
           quarantined = quarantined + CASE WHEN generation = ${key.generation} THEN ${part.quarantined.length}::int ELSE 0 END,
           requests = requests + ${part.requests}, tokens = tokens + ${part.tokens},
           cost_usd = CASE WHEN ${part.costUsd}::float8 IS NULL THEN cost_usd ELSE coalesce(cost_usd, 0) + ${part.costUsd}::float8 END
     WHERE run_id = ${key.runId} AND tenant_id = ${key.tenantId}`);
}

/**
 * Ends a batch, once: the first call in a generation counts, every other returns false and changes nothing.
 *
 * @param failed rows that were given up, with the failure's code as `reason`.
 */
export async function endBatch(
  db: Db,
  key: BatchKey,
  range: KeyRange,
  { failed, reason }: { failed: readonly string[]; reason: string | null },
): Promise<boolean> {
  return db.transaction(async (tx) => {
    const { endedAt } = await lockBatch(tx as unknown as Db, key, range);
    if (endedAt !== null) return false;
    await tx.execute(sql`
      UPDATE infill.run_batches
         SET ended_at = now(), failed_ids = ${sql.param(failed)}::text[], reason = ${reason}
       WHERE ${isBatch(key)}`);
    await tx.execute(sql`
      UPDATE infill.run_tenants SET ended = ended + 1, failed = failed + ${failed.length}
       WHERE run_id = ${key.runId} AND tenant_id = ${key.tenantId} AND generation = ${key.generation}`);
    return true;
  });
}

export async function isBatchEnded(db: Db, key: BatchKey): Promise<boolean> {
  const rows = await db.execute(
    sql`SELECT 1 FROM infill.run_batches WHERE ${isBatch(key)} AND ended_at IS NOT NULL`,
  );
  return rows.length > 0;
}

/** Rows that a tenant's batches have given up in this generation, as an array for `= ANY(...)`. */
export function idsGivenUp({ runId, tenantId, generation }: Omit<BatchKey, 'sequence'>): SQL {
  return sql`ARRAY(SELECT unnest(b.failed_ids) FROM infill.run_batches b
                    WHERE b.run_id = ${runId} AND b.tenant_id = ${tenantId} AND b.generation = ${generation})`;
}

/**
 * Rows that a dry run has been through, as an array for `= ANY(...)`: they stay missing, so the rows cannot tell. Only an
 * earlier attempt or an earlier plan can have met this batch's rows.
 */
export function idsRehearsed({ runId, tenantId, generation, sequence }: BatchKey): SQL {
  return sql`ARRAY(SELECT unnest(b.embedded_ids) FROM infill.run_batches b
                    WHERE b.run_id = ${runId} AND b.tenant_id = ${tenantId}
                      AND (b.generation < ${generation} OR (b.generation = ${generation} AND b.sequence = ${sequence})))`;
}

/** Rows that a tenant's batches have been through in whatever generation, as an array for `= ANY(...)`. */
export function idsSeen({ runId, tenantId }: Pick<BatchKey, 'runId' | 'tenantId'>): SQL {
  return sql`ARRAY(SELECT unnest(b.embedded_ids || b.superseded_ids || b.gone_ids || b.quarantined_ids || b.failed_ids)
                     FROM infill.run_batches b WHERE b.run_id = ${runId} AND b.tenant_id = ${tenantId})`;
}

export type RowOutcome = {
  readonly tenantId: string;
  readonly rowId: string;
  readonly outcome: 'embedded' | 'superseded' | 'gone' | 'quarantined' | 'failed';
  readonly reason: string | null;
};

export type RowsCursor = {
  readonly tenantId: string;
  readonly generation: number;
  readonly sequence: number;
  readonly place: number;
};

/**
 * What became of each row, in the order of tenant, generation, batch and place within it. A row that failed
 * or was quarantined in an older generation is left out: it was tried again, or is among those of this one.
 */
export async function listRowOutcomes(
  db: Db,
  runId: string,
  {
    after,
    limit,
    outcome,
  }: { after: RowsCursor | null; limit: number; outcome: RowOutcome['outcome'] | null },
): Promise<(RowOutcome & RowsCursor)[]> {
  const start = after ?? { tenantId: '', generation: 0, sequence: 0, place: 0 };
  const rows = await db.execute<RowOutcome & RowsCursor>(sql`
    SELECT b.tenant_id AS "tenantId", b.generation, b.sequence, o.place::int AS "place", o.row_id AS "rowId",
           o.outcome, CASE WHEN o.outcome = 'failed' THEN b.reason ELSE o.code END AS "reason"
      FROM infill.run_batches b
      JOIN infill.run_tenants t ON t.run_id = b.run_id AND t.tenant_id = b.tenant_id
     CROSS JOIN LATERAL (
       SELECT row_number() OVER () AS place, u.row_id, u.outcome, u.code
         FROM (SELECT unnest(b.embedded_ids) AS row_id, 'embedded' AS outcome, NULL AS code
               UNION ALL SELECT unnest(b.superseded_ids), 'superseded', NULL
               UNION ALL SELECT unnest(b.gone_ids), 'gone', NULL
               UNION ALL SELECT aside.id, 'quarantined', aside.code
                           FROM unnest(b.quarantined_ids, b.quarantined_codes) AS aside (id, code) WHERE b.generation = t.generation
               UNION ALL SELECT unnest(b.failed_ids), 'failed', NULL WHERE b.generation = t.generation) u) o
     WHERE b.run_id = ${runId} AND (${outcome}::text IS NULL OR o.outcome = ${outcome}::text)
       AND (b.tenant_id, b.generation, b.sequence) >= (${start.tenantId}, ${start.generation}, ${start.sequence})
       AND (b.tenant_id, b.generation, b.sequence, o.place)
         > (${start.tenantId}, ${start.generation}, ${start.sequence}, ${start.place})
     ORDER BY b.tenant_id, b.generation, b.sequence, o.place
     LIMIT ${limit}`);
  return [...rows];
}

function isBatch(key: BatchKey): SQL {
  return sql`run_id = ${key.runId} AND tenant_id = ${key.tenantId} AND generation = ${key.generation} AND sequence = ${key.sequence}`;
}

/** Codes of the failures behind the rows that a tenant's batches gave up in this generation, most rows first. */
export async function listFailureCodes(
  db: Db,
  { runId, tenantId, generation }: Omit<BatchKey, 'sequence'>,
): Promise<string[]> {
  const rows = await db.execute<{ reason: string }>(sql`
    SELECT reason FROM infill.run_batches
     WHERE run_id = ${runId} AND tenant_id = ${tenantId} AND generation = ${generation}
       AND reason IS NOT NULL AND cardinality(failed_ids) > 0
     GROUP BY reason ORDER BY sum(cardinality(failed_ids)) DESC LIMIT 3`);
  return rows.map((row) => row.reason);
}
