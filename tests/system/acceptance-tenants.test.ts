import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  isRealPostgres,
  type Json,
  PLATFORM_KEY,
  type System,
  startSystem,
  wrongRows,
} from '../support/system.ts';

const TENANTS = ['acme', 'globex', 'hooli', 'initech', 'umbrella'];
const keyOf = (tenant: string) => `sk-key-of-${tenant}-only`;
/** PGlite runs one statement at a time: there, a tenth of the rows shows the same. */
const rowsEach = () => (isRealPostgres() ? 1_000 : 100);

let system: System;
let run: Json;

beforeAll(async () => {
  system = await startSystem({ workers: 2 });
  for (const tenant of TENANTS) {
    await system.giveKey(tenant, keyOf(tenant));
    await system.addRows(
      Array.from({ length: rowsEach() }, (_, index) => ({ tenant, text: `insight ${index} of ${tenant}` })),
    );
  }
  system.openai.ledger.reset();
  run = await system.backfill('?batchSize=50');
}, 180_000);
afterAll(() => system.close());

test('two workers fill every missing row of five tenants', async () => {
  const all = TENANTS.length * rowsEach();

  expect(run).toMatchObject({
    status: 'succeeded',
    message: `Successfully backfilled ${all} embeddings.`,
    rows: { planned: all, embedded: all, superseded: 0, gone: 0, quarantined: 0, failed: 0, remaining: 0 },
    tenants: { total: 5, settled: 5 },
    coverage: { before: { missing: all, embedded: 0 }, after: { missing: 0, embedded: all } },
  });
});

test("each vector is the provider's for the text of that very row", async () => {
  expect(wrongRows(await system.rows())).toEqual([]);
});

test("each text was sent with its own tenant's key, and with no other", async () => {
  const keys = system.openai.ledger.keysByText();

  for (const { tenant_id, content } of await system.rows()) {
    expect([...(keys.get(content ?? '') ?? [])], content ?? '').toEqual([keyOf(tenant_id ?? '')]);
  }
  expect(system.openai.ledger.callsBy(PLATFORM_KEY)).toEqual([]);
});

test('no text was sent twice, and nothing but the texts', async () => {
  const all = TENANTS.length * rowsEach();

  expect(system.openai.ledger.summary()).toMatchObject({
    inputs: all,
    billedInputs: all,
    billedDistinct: all,
    statuses: { '200': all / 50 },
  });
});

test('both workers had a part in it', () => {
  for (const worker of system.processes.slice(1)) expect(worker.output()).toContain('"batch_ended"');
});

test('the run, its tenants and its rows tell the same figures', async () => {
  const tenants = await system.listed(run.runId, 'tenants', 2);
  const rows = await system.listed(run.runId, 'rows', 333);

  expect(tenants.map(({ tenantId }) => tenantId)).toEqual(TENANTS);
  expect(tenants.reduce((sum, { tokens }) => sum + tokens, 0)).toBe(run.tokens);
  expect(run.tokens).toBe(system.openai.ledger.summary().billedTokens);
  expect(run.requests).toBe(system.openai.ledger.summary().calls);
  expect(rows).toHaveLength(run.rows.embedded);
  expect(new Set(rows.map(({ rowId }) => rowId)).size).toBe(run.rows.embedded);
  expect(new Set(rows.map(({ outcome }) => outcome))).toEqual(new Set(['embedded']));
});

test('a second run finds nothing missing and calls nobody', async () => {
  system.openai.ledger.reset();

  const second = await system.backfill();

  expect(second).toMatchObject({
    status: 'succeeded',
    message: 'No missing embeddings found.',
    progress: 100,
  });
  expect(system.openai.ledger.entries).toEqual([]);
});
