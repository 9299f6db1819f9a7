/** What the audit judges by: plain data, gathered when all is over. */
import type { LedgerEntry } from '../openai-server/ledger.ts';
import type { Strike } from './monkey.ts';
import { TABLES, textOfRow } from './tables.ts';
import { PLATFORM_KEY, type World } from './world.ts';

export type RowFacts = {
  readonly target: string;
  readonly id: string;
  readonly tenant: string;
  /** The text that is to be embedded; empty when the row is blank. */
  readonly text: string;
  readonly vector: readonly number[] | null;
  readonly isQuarantined: boolean;
};

export type RunFacts = {
  readonly runId: string;
  readonly target: string;
  readonly status: string;
  readonly reason: string | null;
  readonly dryRun: boolean;
};

export type TenantFacts = {
  readonly runId: string;
  readonly tenantId: string;
  readonly status: string;
  readonly generation: number;
  readonly admitted: number;
  readonly ended: number;
  readonly embedded: number;
  readonly superseded: number;
  readonly gone: number;
  readonly quarantined: number;
  readonly failed: number;
  readonly requests: number;
  readonly tokens: number;
};

export type BatchFacts = {
  readonly runId: string;
  readonly tenantId: string;
  readonly generation: number;
  readonly sequence: number;
  readonly requests: number;
  readonly tokens: number;
  readonly embeddedIds: readonly string[];
  readonly supersededIds: readonly string[];
  readonly goneIds: readonly string[];
  readonly quarantinedIds: readonly string[];
  readonly failedIds: readonly string[];
};

export type EventFacts = { readonly runId: string; readonly action: string; readonly atMs: number };

/** A call of the provider's ledger. */
export type CallFacts = Pick<
  LedgerEntry,
  'call' | 'atMs' | 'durationMs' | 'key' | 'texts' | 'billed' | 'fault' | 'status'
>;

export type Evidence = {
  readonly rows: readonly RowFacts[];
  readonly runs: readonly RunFacts[];
  readonly tenants: readonly TenantFacts[];
  readonly batches: readonly BatchFacts[];
  /** Events of runs, in their order. */
  readonly events: readonly EventFacts[];
  readonly calls: readonly CallFacts[];
  /** The keys that each tenant may be embedded with. */
  readonly keysOf: ReadonlyMap<string, readonly string[]>;
  /** How many rows ever held a text. */
  readonly holders: ReadonlyMap<string, number>;
  /** How often a row was edited, by `target/id`. */
  readonly edits: ReadonlyMap<string, number>;
  readonly strikes: readonly Strike[];
};

export async function gatherEvidence(world: World, strikes: readonly Strike[]): Promise<Evidence> {
  const { sql, tenants, rows } = world;
  const runs = await sql<RunFacts[]>`
    SELECT run_id AS "runId", target, status, reason, dry_run AS "dryRun" FROM infill.runs ORDER BY created_at`;
  const parts = await sql<TenantFacts[]>`
    SELECT run_id AS "runId", tenant_id AS "tenantId", status, generation, admitted, ended, embedded::float8, superseded::float8,
           gone::float8, quarantined::float8, failed::float8, requests::float8, tokens::float8
      FROM infill.run_tenants`;
  const batches = await sql<BatchFacts[]>`
    SELECT run_id AS "runId", tenant_id AS "tenantId", generation, sequence, requests::float8, tokens::float8,
           embedded_ids AS "embeddedIds", superseded_ids AS "supersededIds", gone_ids AS "goneIds",
           quarantined_ids AS "quarantinedIds", failed_ids AS "failedIds"
      FROM infill.run_batches`;
  const events = await sql<EventFacts[]>`
    SELECT run_id AS "runId", action, (extract(epoch FROM at) * 1000)::float8 AS "atMs"
      FROM infill.audit_events WHERE run_id IS NOT NULL ORDER BY event_id`;
  return {
    rows: await readRows(world),
    runs,
    tenants: parts,
    batches,
    events,
    calls: await world.openai.control.ledger(),
    keysOf: new Map(tenants.map(({ id, keys }) => [id, keys.length > 0 ? keys : [PLATFORM_KEY]])),
    holders: rows.holders,
    edits: rows.edits,
    strikes,
  };
}

type StoredRow = {
  readonly id: string;
  readonly tenant: string;
  readonly columns: (string | null)[];
  readonly embedding: string | null;
  readonly quarantined: boolean;
};

async function readRows({ sql }: World): Promise<RowFacts[]> {
  const facts: RowFacts[] = [];
  for (const { name, text } of TABLES) {
    const stored = await sql.unsafe<StoredRow[]>(`
      SELECT id::text, tenant_id AS tenant, to_json(ARRAY[${text.join(', ')}]) AS columns, embedding::text AS embedding,
             EXISTS (SELECT 1 FROM infill.quarantined_rows q WHERE q.target = '${name}' AND q.row_id = t.id::text) AS quarantined
        FROM ${name} t`);
    for (const { id, tenant, columns, embedding, quarantined } of stored) {
      const vector = embedding === null ? null : (JSON.parse(embedding) as number[]);
      facts.push({ target: name, id, tenant, text: textOfRow(columns), vector, isQuarantined: quarantined });
    }
  }
  return facts;
}
