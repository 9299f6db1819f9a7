import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Json, jsonBody, type System, startSystem, until, wrongRows } from '../support/system.ts';

const PATH = '/api/v1/admin/backfill-embeddings';
const ROWS = 200;

let system: System;

beforeAll(async () => {
  // Slow enough that a run is still at work when a control reaches it: 20 batches, four at a time, 0.12 s each.
  system = await startSystem({ env: { WORKER_CONCURRENCY: '4' } });
});
afterAll(() => system.close());
beforeEach(async () => {
  await system.sql`TRUNCATE notes, infill.runs, infill.run_tenants, infill.run_batches, infill.audit_events CASCADE`;
  system.openai.ledger.reset();
  system.openai.setLatency({ fixedMs: 120 });
  await system.addRows(
    Array.from({ length: ROWS }, (_, index) => ({
      tenant: index % 2 ? 'acme' : 'globex',
      text: `note ${index}`,
    })),
  );
});

const control = (runId: string, name: string, init: RequestInit = {}) =>
  system.call('POST', `${PATH}/${runId}/${name}`, init);

/** Starts a run and returns when it has written something, and has more to do. */
async function runAtWork(query = '?batchSize=10'): Promise<string> {
  const { body } = await system.call('POST', `${PATH}${query}`);
  await until(async () => (await system.run(body.runId)).rows.embedded > 0, 'the run has written something');
  return body.runId;
}

async function untilStatus(runId: string, status: string): Promise<Json> {
  await until(async () => (await system.run(runId)).status === status, `the run is ${status}`);
  return system.run(runId);
}

const writtenRows = async () => (await system.rows()).filter(({ embedding }) => embedding !== null);

async function expectTrueCounts(run: Json): Promise<void> {
  const written = await writtenRows();
  expect(run.rows).toMatchObject({ planned: ROWS, embedded: written.length, failed: 0 });
  const listed = await system.listed(run.runId, 'rows');
  expect(listed.map(({ rowId }) => rowId).sort()).toEqual(written.map(({ id }) => id).sort());
  const { billedInputs, billedDistinct } = system.openai.ledger.summary();
  expect(billedInputs, 'nothing was paid for twice').toBe(billedDistinct);
}

const terminalEvents = async (runId: string) =>
  (
    await system.sql`
      SELECT action FROM infill.audit_events
       WHERE run_id = ${runId} AND action IN ('run.succeeded', 'run.incomplete', 'run.cancelled', 'run.failed')`
  ).map(({ action }) => action);

describe('cancel', () => {
  test('takes effect within 5 s: what was paid for is written, nothing new starts, the counts are true', async () => {
    const runId = await runAtWork();
    const askedMs = Date.now();

    const first = await control(runId, 'cancel', { headers: { 'x-actor': 'zoe' } });
    const run = await system.settled(runId);

    expect(first).toMatchObject({ status: 202, body: { status: 'cancelling' } });
    expect(Date.now() - askedMs).toBeLessThan(5_000);
    expect(run).toMatchObject({
      status: 'cancelled',
      progress: 100,
      reason: null,
      tenants: { total: 2, settled: 2 },
    });
    expect(run.rows.embedded).toBeLessThan(ROWS);
    expect(run.rows.remaining).toBe(ROWS - run.rows.embedded);
    expect(run.message).toBe(`Cancelled after ${run.rows.embedded} embeddings written.`);
    await expectTrueCounts(run);
    expect(system.openai.ledger.summary().billedInputs).toBe(run.rows.embedded);
    const asked =
      await system.sql`SELECT actor FROM infill.audit_events WHERE action = 'run.cancel_requested'`;
    expect([...asked]).toEqual([{ actor: 'zoe' }]);
    expect(await terminalEvents(runId)).toEqual(['run.cancelled']);
  });

  test('may be repeated, at the same moment and afterwards', async () => {
    const runId = await runAtWork();

    const answers = await Promise.all(Array.from({ length: 5 }, () => control(runId, 'cancel')));
    await system.settled(runId);
    const later = await control(runId, 'cancel');

    expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 200, 200, 202]);
    expect(later).toMatchObject({ status: 200, body: { status: 'cancelled' } });
    expect(await terminalEvents(runId)).toEqual(['run.cancelled']);
  });

  test('frees the target for another run', async () => {
    const runId = await runAtWork();
    await control(runId, 'cancel');
    await system.settled(runId);
    system.openai.setLatency({ fixedMs: 0 });

    const next = await system.backfill();

    expect(next).toMatchObject({ status: 'succeeded', rows: { remaining: 0 } });
    expect(wrongRows(await system.rows())).toEqual([]);
    const { billedInputs, billedDistinct } = system.openai.ledger.summary();
    expect(billedInputs).toBe(billedDistinct);
  });
});

describe('pause and resume', () => {
  test('stop after the batches in hand, and go on with what is missing; no text is sent twice', async () => {
    const runId = await runAtWork();

    expect(await control(runId, 'pause')).toMatchObject({ status: 202, body: { status: 'pausing' } });
    const paused = await untilStatus(runId, 'paused');
    await expectTrueCounts(paused);
    expect(system.openai.ledger.inFlight).toBe(0);
    expect(paused).toMatchObject({ settledAt: null });
    expect(paused.message).toMatch(/^Paused after \d+ embeddings; resume goes on with what is missing\.$/);
    expect(await control(runId, 'pause')).toMatchObject({ status: 200, body: { status: 'paused' } });
    expect(await terminalEvents(runId)).toEqual([]);

    expect(await control(runId, 'resume')).toMatchObject({
      status: 202,
      body: { status: 'running', generation: 3 },
    });
    expect((await control(runId, 'resume')).status).toBe(200);
    const run = await system.settled(runId);
    expect(run).toMatchObject({ status: 'succeeded', rows: { planned: ROWS, embedded: ROWS, remaining: 0 } });
    await expectTrueCounts(run);
    expect(wrongRows(await system.rows())).toEqual([]);
    expect(await terminalEvents(runId)).toEqual(['run.succeeded']);
  });

  test('at once pay for nothing twice: what is in hand is waited for', async () => {
    const runId = await runAtWork();
    // Half of the slots are free, so that nothing else keeps the run from beginning anew.
    await system.call('PATCH', `${PATH}/${runId}`, jsonBody({ window: 1 }));
    await until(async () => system.openai.ledger.inFlight === 2, 'each tenant has one batch in hand');

    await control(runId, 'pause');
    expect((await control(runId, 'resume')).status).toBe(202);
    const run = await system.settled(runId);

    expect(run).toMatchObject({ status: 'succeeded', rows: { superseded: 0, remaining: 0 } });
    await expectTrueCounts(run);
  });

  test('a paused run keeps its target, and can be cancelled', async () => {
    const runId = await runAtWork();
    await control(runId, 'pause');
    await untilStatus(runId, 'paused');

    expect(await system.call('POST', PATH)).toMatchObject({ status: 409, body: { runId } });
    expect((await control(runId, 'cancel')).status).toBe(202);

    await expectTrueCounts(await untilStatus(runId, 'cancelled'));
  });
});

describe('retry', () => {
  test('completes a cancelled run, without sending again what is written', async () => {
    const runId = await runAtWork();
    await control(runId, 'cancel');
    await system.settled(runId);

    expect(await control(runId, 'retry')).toMatchObject({
      status: 202,
      body: { status: 'running', settledAt: null },
    });
    const run = await system.settled(runId);

    expect(run).toMatchObject({ status: 'succeeded', rows: { planned: ROWS, embedded: ROWS, remaining: 0 } });
    await expectTrueCounts(run);
    expect(await terminalEvents(runId)).toEqual(['run.cancelled', 'run.succeeded']);
  });

  test('of named tenants leaves the others alone', async () => {
    const runId = await runAtWork();
    await control(runId, 'cancel');
    await system.settled(runId);
    const before = (await writtenRows()).filter(({ tenant_id }) => tenant_id === 'globex').length;

    await control(runId, 'retry?tenantId=acme');
    const run = await system.settled(runId);

    const missing = (await system.rows()).filter(({ embedding }) => embedding === null);
    expect(new Set(missing.map(({ tenant_id }) => tenant_id))).toEqual(new Set(['globex']));
    expect(missing).toHaveLength(ROWS / 2 - before);
    expect(run).toMatchObject({ status: 'incomplete', rows: { remaining: missing.length } });
  });

  test('of named tenants stays with them when it is paused and resumed', async () => {
    const runId = await runAtWork();
    await control(runId, 'cancel');
    await system.settled(runId);
    const left = async () =>
      (await system.rows()).filter(
        ({ embedding, tenant_id }) => embedding === null && tenant_id === 'globex',
      );
    const before = await left();

    await control(runId, 'retry?tenantId=acme');
    await control(runId, 'pause');
    await untilStatus(runId, 'paused');
    await control(runId, 'resume');
    await system.settled(runId);

    expect(await left()).toEqual(before);
  });

  test('of other tenants than those that one is at work for is a 409, since it would be lost', async () => {
    const runId = await runAtWork();
    await control(runId, 'cancel');
    await system.settled(runId);

    expect((await control(runId, 'retry?tenantId=acme')).status).toBe(202);
    const answers = [
      await control(runId, 'retry?tenantId=acme'),
      await control(runId, 'retry?tenantId=acme&tenantId=globex'),
      await control(runId, 'retry'),
    ];

    expect(answers.map(({ status }) => status)).toEqual([200, 409, 409]);
    expect(answers[1]?.body).toMatchObject({ runStatus: 'running' });
    await system.settled(runId);
  });

  test('of a tenant that the run is not for is refused, and changes nothing', async () => {
    const runId = await runAtWork('?batchSize=10&tenantId=acme');
    await control(runId, 'cancel');
    await system.settled(runId);

    const answer = await control(runId, 'retry?tenantId=globex');

    expect(answer).toMatchObject({ status: 400, body: { errors: [{ field: 'tenantId' }] } });
    expect(await system.run(runId)).toMatchObject({ status: 'cancelled', generation: 2 });
  });

  test.each([['nobody'], ['acme&tenantId=nobody'], ['ACME']])(
    'of a tenant that the run has not planned (%s) is refused, and changes nothing',
    async (query) => {
      const runId = await runAtWork();
      await control(runId, 'cancel');
      await system.settled(runId);

      const answer = await control(runId, `retry?tenantId=${query}`);

      expect(answer).toMatchObject({ status: 400, body: { errors: [{ field: 'tenantId' }] } });
      expect(await system.run(runId)).toMatchObject({ status: 'cancelled', generation: 2 });
    },
  );

  test('waits for the other run of its target', async () => {
    const runId = await runAtWork();
    await control(runId, 'cancel');
    await system.settled(runId);
    const { body: other } = await system.call('POST', PATH);

    expect(await control(runId, 'retry')).toMatchObject({ status: 409, body: { runId: other.runId } });
    await system.settled(other.runId);
  });
});

describe('a change', () => {
  test('of the batch size counts from the next admission on, and is recorded', async () => {
    const runId = await runAtWork('?batchSize=2');

    const changed = await system.call('PATCH', `${PATH}/${runId}`, jsonBody({ batchSize: 100, window: 2 }));

    expect(changed).toMatchObject({ status: 200, body: { batchSize: 100, window: 2 } });
    const run = await system.settled(runId);
    expect(run).toMatchObject({ status: 'succeeded', rows: { embedded: ROWS } });
    expect(Math.max(...system.openai.ledger.entries.map(({ texts }) => texts.length))).toBeGreaterThan(2);
    const events = await system.sql`SELECT details FROM infill.audit_events WHERE action = 'run.changed'`;
    expect(events).toHaveLength(1);
  });

  test('of a cap on tokens stops the run, which says so', async () => {
    const runId = await runAtWork('?batchSize=2');

    await system.call('PATCH', `${PATH}/${runId}`, jsonBody({ maxTokens: 1 }));

    const run = await system.settled(runId);
    expect(run).toMatchObject({ status: 'incomplete', maxTokens: 1 });
    expect(run.reason).toContain('max_tokens_reached');
    await expectTrueCounts(run);
  });
});
