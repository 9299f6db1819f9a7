import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ALL_ATTEMPTS_MS, type Json, type System, startSystem, wrongRows } from '../support/system.ts';

const TENANTS = ['acme', 'globex', 'hooli'];

let system: System;
let run: Json;

beforeAll(async () => {
  system = await startSystem({ workers: 2 });
  for (const tenant of TENANTS) {
    await system.addRows(
      Array.from({ length: 60 }, (_, index) => ({ tenant, text: `${tenant} note ${index}` })),
    );
  }
  await system.sql`UPDATE notes SET content = content || ' cursed' WHERE content IN ('globex note 13', 'globex note 17')`;
  system.openai.faults.add({ when: { textIncludes: 'cursed' }, action: { kind: 'status', status: 500 } });
  const started = await system.call('POST', '/api/v1/admin/backfill-embeddings?batchSize=20');
  run = await system.settled(started.body.runId, ALL_ATTEMPTS_MS);
}, ALL_ATTEMPTS_MS + 30_000);
afterAll(() => system.close());

describe('a batch that fails at every attempt', () => {
  test('stops no other: all rows are filled but those that nobody embeds', async () => {
    const left = wrongRows(await system.rows()).map(({ content }) => content);

    expect(left).toEqual(['globex note 13 cursed', 'globex note 17 cursed']);
  });

  test('leaves the run incomplete, which says how many rows of whom, and why', () => {
    expect(run).toMatchObject({
      status: 'incomplete',
      progress: 100,
      reason: 'globex: 2 rows failed (provider_failed)',
      rows: { planned: 180, embedded: 178, quarantined: 0, failed: 2, remaining: 2 },
    });
    expect(run.message).toBe(
      'Backfilled 178 of 180 embeddings. Left: globex: 2 rows failed (provider_failed)',
    );
  });

  test('names its rows as failed, with the reason', async () => {
    const ids = wrongRows(await system.rows()).map(({ id }) => id);

    const { body } = await system.call(
      'GET',
      `/api/v1/admin/backfill-embeddings/${run.runId}/rows?outcome=failed`,
    );

    expect(body.items).toEqual(
      ids.map((rowId) => ({ tenantId: 'globex', rowId, outcome: 'failed', reason: 'provider_failed' })),
    );
  });

  test('shows as failed on its queue, and its tenant too', async () => {
    const { body } = await system.call('GET', '/admin/queues/api/queues');

    const failed = Object.fromEntries(body.queues.map((queue: Json) => [queue.name, queue.counts.failed]));
    expect(failed).toEqual({ 'backfill-runs': 0, 'backfill-tenants': 1, 'backfill-batches': 1 });
  });

  test('is blamed on one tenant alone', async () => {
    const tenants = await system.listed(run.runId, 'tenants');

    expect(tenants.map(({ tenantId, status }) => `${tenantId} ${status}`)).toEqual([
      'acme succeeded',
      'globex incomplete',
      'hooli succeeded',
    ]);
  });

  test('had its rows alone tried again and again: the others were paid for once', () => {
    const { billedInputs, billedDistinct } = system.openai.ledger.summary();

    // The neutral word that tells an outage from a bad row is paid for each time.
    const probes = system.openai.ledger.billedCountOf('ping');
    expect(billedInputs - probes).toBe(billedDistinct - 1);
    expect(system.openai.ledger.billedCountOf('globex note 13 cursed')).toBe(0);
  });
});

describe('a retry, once the provider takes the rows', () => {
  test('sends only what was left, completes the run, and is a no-op the second time', async () => {
    system.openai.faults.clear();
    system.openai.ledger.reset();
    const path = `/api/v1/admin/backfill-embeddings/${run.runId}/retry`;

    const answers = await Promise.all([system.call('POST', path), system.call('POST', path)]);
    const retried = await system.settled(run.runId);

    expect(answers.map(({ status }) => status).sort()).toEqual([200, 202]);
    expect(retried).toMatchObject({
      status: 'succeeded',
      reason: null,
      generation: 2,
      rows: { planned: 180, embedded: 180, failed: 0, remaining: 0 },
    });
    expect(wrongRows(await system.rows())).toEqual([]);
    expect(system.openai.ledger.summary().billedInputs).toBe(2);
  });
});
