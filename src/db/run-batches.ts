/** Statements on `infill.run_batches`: what became of each batch, once. */
import { type SQL, sql } from 'drizzle-orm';
import type { Db } from './client.ts';

export type BatchKey = {
  readonly runId: string;
  readonly generation: number;
  readonly tenantId: string;
  readonly sequence: number;
};

/**
 * Rows that a tenant's batches have given up in this generation, as an array for `= ANY(...)`. The batches are only looked
 * through when there are any such rows.
 */
export function idsGivenUp({ runId, tenantId, generation }: Omit<BatchKey, 'sequence'>): SQL {
  return sql`coalesce((SELECT CASE WHEN p.failed = 0 THEN '{}'::text[] ELSE
                     ARRAY(SELECT unnest(b.failed_ids) FROM infill.run_batches b
                            WHERE b.run_id = p.run_id AND b.tenant_id = p.tenant_id AND b.generation = p.generation) END
                FROM infill.run_tenants p
               WHERE p.run_id = ${runId} AND p.tenant_id = ${tenantId} AND p.generation = ${generation}), '{}'::text[])`;
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

export function isBatch(key: BatchKey): SQL {
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
