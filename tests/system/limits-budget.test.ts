import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { QUEUES } from '../../src/queue/jobs.ts';
import { jsonBody, PLATFORM_KEY, type System, startSystem, until, wrongRows } from '../support/system.ts';

/** Batches that can be in hand at once. */
const SLOTS = 4;

let system: System;
let redis: Redis;

beforeAll(async () => {
  system = await startSystem({ env: { WORKER_CONCURRENCY: String(SLOTS) } });
  redis = new Redis(system.redisUrl);
});
afterAll(async () => {
  await redis?.quit();
  await system?.close();
});
beforeEach(async () => {
  await system.sql`TRUNCATE notes, infill.quarantined_rows, infill.tenant_credentials`;
  system.openai.setLatency({ fixedMs: 0 });
  system.openai.ledger.reset();
});
afterEach(async () => {
  await system.sql`TRUNCATE infill.switches`;
});

const RUNS = '/api/v1/admin/backfill-embeddings';

const notes = (tenant: string, count: number) =>
  Array.from({ length: count }, (_, index) => ({ tenant, text: `${tenant} note ${index}` }));

const start = async (query = ''): Promise<string> =>
  (await system.call('POST', `${RUNS}${query}`)).body.runId;
const flip = (body: object) => system.call('PUT', '/api/v1/admin/switches', jsonBody(body));
const patch = (runId: string, body: object) => system.call('PATCH', `${RUNS}/${runId}`, jsonBody(body));

/** Puts the worker down meanwhile, so that nothing is admitted. */
async function withoutWorker<T>(act: () => Promise<T>): Promise<T> {
  await system.processes.at(-1)?.stop();
  const result = await act();
  await system.startWorker();
  return result;
}

/** Batches that were admitted and have not ended. */
const admitted = async (runId: string): Promise<number> =>
  (
    await system.sql`SELECT sum(admitted - ended)::int AS batches FROM infill.run_tenants WHERE run_id = ${runId}`
  )[0]?.['batches'];

const billedTokens = () => system.openai.ledger.summary().billedTokens;

describe('equal texts', () => {
  test('of one tenant are paid for once: 36% duplicates cost 36% less', async () => {
    // So many batches that few equal texts are in two that run side by side.
    const count = 1_000;
    const distinct = Math.round(count * 0.64);
    // Duplicates lie as far from their original as they do in real tables: anywhere.
    const texts = Array.from(
      { length: count },
      (_, index) => `acme insight ${index < distinct ? index : (index * 7_919) % distinct}`,
    );
    const shuffled = texts
      .map((text, index) => ({ text, order: (index * 104_729) % count }))
      .toSorted((a, b) => a.order - b.order);
    await system.addRows(shuffled.map(({ text }) => ({ tenant: 'acme', text })));

    const run = await system.backfill('?batchSize=10');

    expect(run).toMatchObject({ status: 'succeeded', rows: { embedded: count } });
    expect(wrongRows(await system.rows())).toEqual([]);
    const { billedInputs } = system.openai.ledger.summary();
    // Batches side by side may each pay for a text that neither had yet.
    const savedAtLeast = 0.9 * (count - distinct);
    expect(billedInputs).toBeGreaterThanOrEqual(distinct);
    expect(billedInputs).toBeLessThanOrEqual(count - savedAtLeast);
    expect(run.tokens).toBe(billedTokens());
  });

  test('of two tenants are paid for by each with its own key, and no vector crosses over', async () => {
    await system.giveKey('acme', 'sk-acme-budget-key');
    await system.giveKey('globex', 'sk-globex-budget-key');
    const shared = Array.from({ length: 20 }, (_, index) => `a text that all have ${index}`);
    await system.addRows(
      ['acme', 'globex', 'hooli'].flatMap((tenant) => shared.map((text) => ({ tenant, text }))),
    );
    system.openai.ledger.reset();

    const run = await system.backfill('?batchSize=5');

    expect(run).toMatchObject({ status: 'succeeded', rows: { embedded: 60 } });
    const keys = system.openai.ledger.keysByText();
    for (const text of shared) {
      expect(keys.get(text)).toEqual(new Set(['sk-acme-budget-key', 'sk-globex-budget-key', PLATFORM_KEY]));
      expect(system.openai.ledger.billedCountOf(text)).toBe(3);
    }
    const parts = await system.listed(run.runId, 'tenants');
    expect(new Set(parts.map((part) => part.tokens)).size).toBe(1);
    expect(parts.reduce((sum, part) => sum + part.tokens, 0)).toBe(billedTokens());
  });
});

describe('a cap', () => {
  test.each([
    { cap: 'maxTokens=100', reason: /max_tokens_reached: \d+ of 100 tokens are spent/ },
    // 100 tokens of text-embedding-3-small.
    { cap: 'maxCostUsd=0.000002', reason: /max_cost_reached/ },
  ])('stops admitting when it is reached: $cap', async ({ cap, reason }) => {
    await system.addRows(notes('acme', 200));

    const run = await system.backfill(`?batchSize=5&${cap}`);

    expect(run.status).toBe('incomplete');
    expect(run.reason).toMatch(reason);
    expect(run.tokens).toBe(billedTokens());
    expect(run.costUsd).toBeCloseTo((billedTokens() * 0.02) / 1_000_000, 12);
    expect(run.tokens).toBeGreaterThanOrEqual(100);
    // Only what the window had admitted by then is spent beyond it.
    expect(run.tokens).toBeLessThan(100 + 8 * 5 * 5);
    expect(run.rows.embedded + run.rows.remaining).toBe(200);
    expect(run.rows.failed).toBe(0);
  });

  test('that is lifted in time stops nothing', async () => {
    await system.addRows(notes('acme', 100));
    const runId = await withoutWorker(async () => {
      const id = await start('?batchSize=5&maxTokens=50');
      expect(await patch(id, { maxTokens: null })).toMatchObject({ status: 200, body: { maxTokens: null } });
      return id;
    });

    expect(await system.settled(runId)).toMatchObject({ status: 'succeeded', rows: { embedded: 100 } });
  });
});

describe('an estimate', () => {
  test('names rows, tokens, cost and time by tenant, calls nobody, and is borne out by the run', async () => {
    await system.addRows([...notes('acme', 30), ...notes('globex', 10), { tenant: 'acme', text: '  ' }]);

    const { status, body } = await system.call('GET', '/api/v1/admin/estimate?target=notes');

    expect(status).toBe(200);
    expect(system.openai.ledger.entries).toEqual([]);
    expect(body).toMatchObject({ target: 'notes', model: 'text-embedding-3-small', rows: 40 });
    expect(
      body.tenants.map(({ tenantId, rows }: { tenantId: string; rows: number }) => [tenantId, rows]),
    ).toEqual([
      ['acme', 30],
      ['globex', 10],
    ]);
    const run = await system.backfill();
    expect(run.tokens).toBeGreaterThanOrEqual(body.tokens.low);
    expect(run.tokens).toBeLessThanOrEqual(body.tokens.high);
    expect(run.costUsd).toBeGreaterThanOrEqual(body.costUsd.low);
    expect(run.costUsd).toBeLessThanOrEqual(body.costUsd.high);
    expect(body.seconds.low).toBeGreaterThanOrEqual(1);
    expect(await system.call('GET', '/api/v1/admin/estimate?target=notes')).toMatchObject({
      body: { rows: 0, tenants: [] },
    });
  });

  test('of a target that nobody knows is refused', async () => {
    const answer = await system.call('GET', '/api/v1/admin/estimate?target=nowhere');
    expect(answer).toMatchObject({ status: 400, body: { errors: [{ field: 'target' }] } });
  });
});

describe('a switch', () => {
  test.each([
    { body: { scope: 'global' }, says: 'everything' },
    { body: { scope: 'target', name: 'notes' }, says: 'target notes' },
    { body: { scope: 'tenant', name: 'acme' }, says: 'tenant acme' },
  ])('holds a run that is at work, says so, and lets it go on: $says', async ({ body, says }) => {
    const rows = 400;
    system.openai.setLatency({ fixedMs: 300 });
    await system.addRows([...notes('acme', rows), ...notes('globex', 10)]);
    const runId = await start('?batchSize=5');
    await until(async () => (await system.run(runId)).rows.embedded > 0, 'the run is at work');
    await patch(runId, { window: 20 });
    await until(async () => (await admitted(runId)) > SLOTS, 'more batches are on Redis than can be in hand');

    await flip({ ...body, hold: true, reason: 'the disk is full' });
    const isHeld = async () =>
      (await system.run(runId)).message.includes(`switched ${says} off (the disk is full)`);
    await until(isHeld, 'the run says that it is on hold');
    // Not the provider's count of calls: it is zero between two batches, too.
    const inHand = () => redis.llen(`{infill}:${QUEUES.batches}:active`);
    await until(async () => (await inHand()) === 0, 'what was in hand is through');
    expect(await admitted(runId), 'batches that were admitted before wait, too').toBeGreaterThan(0);
    if (body.scope === 'tenant') {
      const globex = async () =>
        (await system.listed(runId, 'tenants')).find((part) => part.tenantId === 'globex');
      await until(async () => (await globex()).status === 'succeeded', 'the other tenant is done');
    }
    const sent = system.openai.ledger.entries.length;
    // What comes to look whether it may go on sends nothing.
    const looks = async () => (await redis.xlen(`{infill}:${QUEUES.batches}:events`)) as number;
    const looked = await looks();
    await until(async () => (await looks()) > looked + 2, 'batches look whether they may go on');
    expect(system.openai.ledger.summary().billedInputs).toBeLessThan(rows);
    expect(await system.run(runId)).toMatchObject({ status: 'running' });
    const { body: listed } = await system.call('GET', '/api/v1/admin/switches');
    expect(listed.items).toMatchObject([{ ...body, reason: 'the disk is full' }]);
    expect(system.openai.ledger.entries.length).toBe(sent);

    system.openai.setLatency({ fixedMs: 0 });
    await flip({ ...body, hold: false });

    const run = await system.settled(runId);
    expect(run).toMatchObject({ status: 'succeeded', rows: { embedded: rows + 10 } });
    expect(run.message).not.toContain('On hold');
  });

  test.each([
    [{ scope: 'global', name: 'notes', hold: true }, 'name'],
    [{ scope: 'tenant', hold: true }, 'name'],
    [{ scope: 'nobody', hold: true }, 'scope'],
    [{ scope: 'global' }, 'hold'],
  ])('that is not well formed changes nothing: %o', async (body, field) => {
    expect(await flip(body)).toMatchObject({ status: 400, body: { errors: [{ field }] } });
    expect((await system.call('GET', '/api/v1/admin/switches')).body.items).toEqual([]);
  });
});

describe('a change of a run', () => {
  test('counts from the next admission on', async () => {
    await system.addRows(notes('acme', 45));
    const runId = await withoutWorker(async () => {
      const id = await start('?batchSize=45');
      const changed = await patch(id, { batchSize: 4, window: 1 });
      expect(changed).toMatchObject({ status: 200, body: { batchSize: 4, window: 1 } });
      return id;
    });

    expect(await system.settled(runId)).toMatchObject({
      status: 'succeeded',
      requests: 12,
      rows: { embedded: 45 },
    });
    expect(system.openai.ledger.entries.every(({ texts }) => texts.length <= 4)).toBe(true);
    expect(system.openai.ledger.inFlightMax).toBe(1);
  });

  test('is refused when the run is settled', async () => {
    const run = await system.backfill();

    expect(await patch(run.runId, { batchSize: 4 })).toMatchObject({
      status: 409,
      body: { runStatus: 'succeeded' },
    });
  });

  test.each([
    [{}, 'body'],
    [{ batchSize: 0 }, 'batchSize'],
    [{ batchSize: 2_049 }, 'batchSize'],
    [{ batchSize: 5, batch: 10 }, 'batch'],
    [{ window: 0 }, 'window'],
    [{ maxTokens: -1 }, 'maxTokens'],
    [{ maxCostUsd: 0 }, 'maxCostUsd'],
  ])('is checked: %j', async (body, field) => {
    const answer = await patch('00000000-0000-4000-8000-000000000000', body);

    expect(answer).toMatchObject({ status: 400, body: { errors: [{ field }] } });
  });
});
