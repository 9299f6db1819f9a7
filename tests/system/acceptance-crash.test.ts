import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Json, type System, startSystem, until, wrongRows } from '../support/system.ts';

/** A dead worker's jobs are free again when their lock is over and somebody has looked: `workers/start.ts`. */
const LOCK_MS = 10_000;
const FINISH_AFTER_LOCK_MS = 30_000;

const TENANTS = ['acme', 'globex', 'hooli'];
const ROWS_EACH = 200;
const SLOTS = 4;

let system: System;
let run: Json;
let tookMs: number;

beforeAll(async () => {
  system = await startSystem({
    workers: 2,
    env: { WORKER_CONCURRENCY: String(SLOTS) },
    openai: { acceptAnyKey: true, latency: { fixedMs: 200 } },
  });
  for (const tenant of TENANTS) {
    await system.addRows(
      Array.from({ length: ROWS_EACH }, (_, index) => ({ tenant, text: `${tenant} note ${index}` })),
    );
  }
  const [, victim, survivor] = system.processes;
  const { body } = await system.call('POST', '/api/v1/admin/backfill-embeddings?batchSize=10');
  await until(
    async () =>
      [victim, survivor].every((worker) => worker?.output().includes('"batch_ended"')) &&
      system.openai.ledger.inFlight > 2,
    'both workers are in the middle of it',
  );
  const killedAtMs = Date.now();
  await victim?.stop('SIGKILL');
  run = await system.settled(body.runId, LOCK_MS + FINISH_AFTER_LOCK_MS);
  tookMs = Date.now() - killedAtMs;
}, 120_000);
afterAll(() => system.close());

test('the run of a worker that is killed is finished by the other, within 30 s of the end of its locks', () => {
  expect(run).toMatchObject({ status: 'succeeded', reason: null });
  expect(tookMs).toBeLessThan(LOCK_MS + FINISH_AFTER_LOCK_MS);
});

test('nothing is missing, and each vector is the one of its row', async () => {
  expect(wrongRows(await system.rows())).toEqual([]);
});

test('the counts are those of the table: no batch was counted twice, and none is left out', async () => {
  const all = TENANTS.length * ROWS_EACH;
  const rows = await system.listed(run.runId, 'rows');
  const tenants = await system.listed(run.runId, 'tenants');

  expect(run.rows).toMatchObject({
    planned: all,
    embedded: all,
    superseded: 0,
    gone: 0,
    failed: 0,
    remaining: 0,
  });
  expect(tenants.map(({ rows: counts }) => counts.embedded)).toEqual(TENANTS.map(() => ROWS_EACH));
  expect(rows.map(({ rowId }) => rowId).sort()).toEqual((await system.rows()).map(({ id }) => id).sort());
  expect(run.tenants).toEqual({ total: 3, settled: 3 });
});

test('only what was on its way at the kill was paid for again', () => {
  const { billedInputs, billedDistinct } = system.openai.ledger.summary();

  // A batch of ten in each of the killed worker's slots.
  expect(billedInputs - billedDistinct).toBeLessThanOrEqual(SLOTS * 10);
});
