/** The statement that begins a batch: all that it goes by, and its rows. */
import { sql } from 'drizzle-orm';
import type { CheckedTarget } from './catalog.ts';
import type { Db } from './client.ts';
import { type BatchKey, idsGivenUp, idsRehearsed } from './run-batches.ts';
import type { RunHead } from './run-head.ts';
import { statedLimitOf } from './schema.ts';
import type { Switch } from './switches.ts';
import { batchRowsSql, type KeyRange, type MissingRow } from './target-rows.ts';
import type { SealedCredential } from './tenant-credentials.ts';

export type BatchStart = {
  readonly run: RunHead;
  /** Whether the run and the tenant are still at work in the batch's generation. */
  readonly isCurrent: boolean;
  /** Whether the batch has ended before: a second turn of it has nothing left to send. */
  readonly isEnded: boolean;
  readonly holdReason: string | null;
  /** Whether the tenant has a monthly budget. */
  readonly hasBudget: boolean;
  readonly switches: readonly Switch[];
  /** The tenant's own key, if it has one. */
  readonly credential: SealedCredential | null;
  /** What is still missing of the batch's range, in the order of the ids; none when the batch is not to be worked on. */
  readonly rows: readonly MissingRow[];
};

type StoredCredential = Omit<SealedCredential, 'sealedKey' | 'requestsPerMinute' | 'tokensPerMinute'> & {
  readonly sealedKey: string;
  readonly requestsPerMinute: number | null;
  readonly tokensPerMinute: number | null;
};
type Head = Omit<BatchStart, 'rows' | 'credential'> & { readonly credential: StoredCredential | null };

/** Undefined when the run does not have the tenant. Read when the batch runs, so that a retry sends only what is left. */
export async function startBatch(
  db: Db,
  target: CheckedTarget,
  batch: BatchKey & KeyRange & { readonly rows: number },
): Promise<BatchStart | undefined> {
  const rows = await db.execute<{ head: string | null } & MissingRow & { rowId: string | null }>(sql`
    WITH head AS MATERIALIZED (
      SELECT r.status = 'running' AND r.generation = ${batch.generation} AND p.status = 'running' AND p.generation = ${batch.generation} AS is_current,
             b.ended_at IS NOT NULL AS is_ended,
             -- What an earlier pass gave up stays given up, also where its rows lie between others that were claimed again.
             CASE WHEN r.dry_run THEN ${idsRehearsed(batch)} ELSE ${idsGivenUp(batch)} END AS except_ids,
             json_build_object(
               'runId', r.run_id, 'target', r.target, 'status', r.status, 'generation', r.generation, 'dryRun', r.dry_run,
               'batchSize', r.batch_size, 'includeUnverified', r.include_unverified, 'rowLimit', r.row_limit, 'tenantIds', r.tenant_ids, 'planTenantIds', r.plan_tenant_ids,
               'window', r."window", 'maxTokens', r.max_tokens, 'maxCostUsd', r.max_cost_usd, 'planned', r.planned) AS run,
             p.hold_reason,
             EXISTS (SELECT 1 FROM infill.tenant_budgets g WHERE g.tenant_id = p.tenant_id) AS has_budget,
             (SELECT coalesce(json_agg(json_build_object('scope', s.scope, 'name', s.name, 'reason', s.reason)), '[]') FROM infill.switches s) AS switches,
             (SELECT json_build_object(
                       'tenantId', c.tenant_id, 'sealedKey', encode(c.sealed_key, 'base64'), 'fingerprint', c.fingerprint, 'baseUrl', c.base_url,
                       'organization', c.organization, 'apiKeyHeader', c.api_key_header, 'model', c.model,
                       'requestsPerMinute', c.requests_per_minute, 'tokensPerMinute', c.tokens_per_minute,
                       'weight', c.weight)
                FROM infill.tenant_credentials c WHERE c.tenant_id = p.tenant_id) AS credential
        FROM infill.runs r
        JOIN infill.run_tenants p ON p.run_id = r.run_id AND p.tenant_id = ${batch.tenantId}
        LEFT JOIN infill.run_batches b ON b.run_id = r.run_id AND b.tenant_id = p.tenant_id AND b.generation = ${batch.generation}
                                      AND b.sequence = ${batch.sequence}
       WHERE r.run_id = ${batch.runId}
    )
    SELECT CASE WHEN coalesce(t.place, 1) = 1 THEN json_build_object(
             'run', head.run, 'isCurrent', head.is_current, 'isEnded', head.is_ended, 'holdReason', head.hold_reason, 'hasBudget', head.has_budget,
             'switches', head.switches, 'credential', head.credential)::text END AS "head",
           t."rowId", t."text", t."textHash", t."isCut"
      FROM head
      LEFT JOIN LATERAL (${batchRowsSql(target, batch, sql`head.is_current AND NOT head.is_ended`, sql`head.except_ids`)}) t ON true
     ORDER BY t.place`);
  const first = rows[0]?.head;
  if (first === undefined || first === null) return undefined;
  const { credential, ...head } = JSON.parse(first) as Head;
  return {
    ...head,
    credential:
      credential === null
        ? null
        : {
            ...credential,
            sealedKey: Buffer.from(credential.sealedKey, 'base64'),
            requestsPerMinute: statedLimitOf(credential.requestsPerMinute),
            tokensPerMinute: statedLimitOf(credential.tokensPerMinute),
          },
    rows: rows
      .filter((row) => row.rowId !== null)
      .map(({ rowId, text, textHash, isCut }) => ({
        rowId,
        text,
        textHash,
        isCut,
        bytes: Buffer.byteLength(text),
      })),
  };
}
