import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { QUEUES } from '../../src/queue/jobs.ts';
import { isRealPostgres, jsonBody, type System, startSystem, until, wrongRows } from '../support/system.ts';

let system: System;

beforeAll(async () => {
  system = await startSystem();
});
afterAll(() => system?.close());
beforeEach(async () => {
  await system.sql`TRUNCATE notes, infill.quarantined_rows`;
  system.openai.ledger.reset();
});
afterEach(() => system.openai.setPoison([]));

const POISON = {
  marker: 'POISON',
  message: 'The input was flagged by our content policy.',
  code: 'content_policy_violation',
};
const QUARANTINE = '/api/v1/admin/quarantine';

/** PGlite is one slow session; on a real Postgres the sizes are those that the product promises. */
const inputs = () => (isRealPostgres() ? 2_000 : 200);

const notes = (count: number, poisoned: readonly number[] = []) =>
  Array.from({ length: count }, (_, index) => ({
    tenant: 'acme',
    text: poisoned.includes(index) ? `POISON ${index}` : `plain note ${index}`,
  }));

const quarantined = async (query = '') =>
  (await system.call('GET', `${QUARANTINE}?limit=1000${query}`)).body.items;

describe('a row that the provider refuses', () => {
  test.each([
    { poisoned: 1, batchSize: 2_000 },
    { poisoned: 1, batchSize: 50 },
    { poisoned: 10, batchSize: 2_000 },
    { poisoned: 10, batchSize: 50 },
  ])(
    'costs itself and a few requests: $poisoned poisoned, $batchSize rows a batch',
    async ({ poisoned, batchSize }) => {
      const count = inputs();
      const places = Array.from({ length: poisoned }, (_, index) =>
        Math.floor(((index + 0.37) * count) / poisoned),
      );
      await system.addRows(notes(count, places));
      system.openai.setPoison([POISON]);

      const run = await system.backfill(`?batchSize=${batchSize}`);

      expect(run).toMatchObject({
        status: 'incomplete',
        rows: { embedded: count - poisoned, quarantined: poisoned, failed: 0, remaining: poisoned },
      });
      expect(wrongRows(await system.rows()).map((row) => row.content)).toEqual(
        places.map((place) => `POISON ${place}`),
      );
      const requestsAtBest = Math.ceil(count / batchSize);
      const extra = system.openai.ledger.entries.length - requestsAtBest;
      expect(extra).toBeLessThanOrEqual(poisoned * (2 + 2 * Math.log2(Math.min(count, batchSize))));
      expect(run.requests).toBe(system.openai.ledger.entries.length);
    },
  );

  test("is quarantined with the provider's code and words, and none of the row's", async () => {
    await system.addRows(notes(20, [7]));
    system.openai.setPoison([POISON]);

    await system.backfill();

    const [row, ...others] = await quarantined();
    expect(others).toEqual([]);
    expect(row).toMatchObject({
      target: 'notes',
      tenantId: 'acme',
      model: 'text-embedding-3-small',
      code: 'input_rejected',
    });
    expect(row.message).toBe('content_policy_violation: The input was flagged by our content policy.');
    expect(row.textHash).toMatch(/^[0-9a-f]{64}$/);
    expect(JSON.stringify(row)).not.toContain('POISON');
  });

  test('is tried again by itself when its text has changed, and not before', async () => {
    await system.addRows(notes(20, [3, 11]));
    system.openai.setPoison([POISON]);
    await system.backfill();
    await system.sql`UPDATE notes SET content = 'an antidote' WHERE content = 'POISON 3'`;
    system.openai.ledger.reset();

    const run = await system.backfill();

    expect(run).toMatchObject({
      status: 'incomplete',
      rows: { planned: 1, embedded: 1, quarantined: 0, remaining: 1 },
    });
    expect(system.openai.ledger.entries.flatMap((entry) => entry.texts)).toEqual(['an antidote']);
    expect(wrongRows(await system.rows()).map((row) => row.content)).toEqual(['POISON 11']);
  });

  test('is counted and listed once by a retry of its run that finds it mended', async () => {
    await system.addRows(notes(5, [2]));
    system.openai.setPoison([POISON]);
    const { runId } = await system.backfill();
    await system.sql`UPDATE notes SET content = 'an antidote' WHERE content LIKE 'POISON%'`;

    await system.call('POST', `/api/v1/admin/backfill-embeddings/${runId}/retry`);
    const run = await system.settled(runId);

    expect(run).toMatchObject({ status: 'succeeded', rows: { embedded: 5, quarantined: 0, remaining: 0 } });
    const outcomes = (await system.listed(runId, 'rows')).map(({ outcome }) => outcome);
    expect(outcomes).toEqual(Array.from({ length: 5 }, () => 'embedded'));
  });

  test('stays counted and listed by a retry of its run that leaves it aside', async () => {
    await system.addRows(notes(5, [1, 3]));
    system.openai.setPoison([POISON]);
    const { runId } = await system.backfill();
    await system.sql`UPDATE notes SET content = 'an antidote' WHERE content = 'POISON 1'`;

    await system.call('POST', `/api/v1/admin/backfill-embeddings/${runId}/retry`);
    const run = await system.settled(runId);

    expect(run).toMatchObject({
      status: 'incomplete',
      rows: { planned: 5, embedded: 4, quarantined: 1, remaining: 1 },
    });
    const rows = await system.listed(runId, 'rows');
    expect(rows.filter(({ outcome }) => outcome === 'quarantined')).toMatchObject([
      { tenantId: 'acme', reason: 'input_rejected' },
    ]);
    expect(rows).toHaveLength(5);
  });

  test.each(['', '&tenantId=acme'])('is told of by a later dry run, as by a real one: %s', async (query) => {
    await system.addRows([...notes(5, [2]), { tenant: 'globex', text: 'POISON too' }]);
    system.openai.setPoison([POISON]);
    await system.backfill();
    await system.addRows(notes(1));

    const dry = await system.backfill(`?dryRun=true${query}`);
    const real = await system.backfill(`?${query.slice(1)}`);

    expect(dry).toMatchObject({ status: 'incomplete', rows: { embedded: 1 } });
    expect(dry.reason).toContain('1 row is quarantined');
    expect(real).toMatchObject({ status: dry.status, reason: dry.reason });
  });

  test('is listed with its reason by a dry run, which sets nothing aside', async () => {
    await system.addRows(notes(5, [2]));
    system.openai.setPoison([POISON]);

    const run = await system.backfill('?dryRun=true');

    expect(run).toMatchObject({ status: 'incomplete', rows: { embedded: 4, quarantined: 1 } });
    const rows = await system.listed(run.runId, 'rows');
    expect(rows.filter(({ outcome }) => outcome === 'quarantined')).toMatchObject([
      { reason: 'input_rejected' },
    ]);
    expect(await quarantined()).toEqual([]);
  });

  test('is tried again when an operator releases it', async () => {
    await system.addRows(notes(20, [3, 11, 15]));
    system.openai.setPoison([POISON]);
    await system.backfill();
    system.openai.setPoison([]);
    const [first] = await quarantined('&target=notes&tenantId=acme&code=input_rejected');
    expect(await quarantined('&tenantId=globex')).toEqual([]);

    const byMistake = await system.call('POST', `${QUARANTINE}/release`, jsonBody({}));
    expect(byMistake).toMatchObject({ status: 400, body: { errors: [{ field: 'body' }] } });
    const one = await system.call(
      'POST',
      `${QUARANTINE}/release`,
      jsonBody({ target: 'notes', rowIds: [first.rowId] }),
    );
    expect(one.body).toEqual({ released: 1 });
    expect(await system.backfill()).toMatchObject({
      status: 'incomplete',
      rows: { embedded: 1, remaining: 2 },
    });

    const rest = await system.call('POST', `${QUARANTINE}/release`, jsonBody({ code: 'input_rejected' }));
    expect(rest.body).toEqual({ released: 2 });
    expect(await system.backfill()).toMatchObject({
      status: 'succeeded',
      rows: { embedded: 2, remaining: 0 },
    });
  });

  test('is listed page by page', async () => {
    await system.addRows(notes(40, [1, 5, 9, 13, 17]));
    system.openai.setPoison([POISON]);
    await system.backfill();

    const ids: string[] = [];
    for (let cursor = ''; ; ) {
      const { body } = await system.call('GET', `${QUARANTINE}?limit=2${cursor}`);
      expect(body.items.length).toBeLessThanOrEqual(2);
      ids.push(...body.items.map((row: { rowId: string }) => row.rowId));
      if (body.nextCursor === null) break;
      cursor = `&cursor=${encodeURIComponent(body.nextCursor)}`;
    }
    expect(new Set(ids).size).toBe(5);
    expect(ids).toHaveLength(5);
  });
});

describe('a request that is wrong whatever the row', () => {
  test('fails the run, says so, and quarantines nothing: refused without a word on why', async () => {
    await system.addRows(notes(inputs()));
    // As OpenAI words a wrong input; here every text meets it, the control word too.
    system.openai.setPoison([{ marker: 'o' }]);

    const run = await system.backfill('?batchSize=2000');

    expect(run).toMatchObject({ status: 'failed', rows: { embedded: 0, quarantined: 0 } });
    expect(run.reason).toContain('our request is wrong');
    expect(await quarantined()).toEqual([]);
    expect(system.openai.ledger.entries.length).toBeLessThan(40);
  });

  test('fails the run, says so, and quarantines nothing: dimensions that the model does not have', async () => {
    await system.addRows(notes(60));
    const id = system.openai.faults.add({
      action: {
        kind: 'status',
        status: 400,
        message: "Invalid value for 'dimensions' = 8. Must be greater than 8.",
        param: null,
      },
    });

    const run = await system.backfill('?batchSize=20');
    system.openai.faults.clear(id);

    expect(run).toMatchObject({ status: 'failed', rows: { embedded: 0, quarantined: 0, failed: 0 } });
    expect(run.reason).toContain("Invalid value for 'dimensions'");
    expect(await quarantined()).toEqual([]);
  });

  test('is finished by a retry once it is right', async () => {
    await system.addRows(notes(30));
    system.openai.setPoison([{ marker: 'o' }]);
    const failed = await system.backfill('?batchSize=10');
    expect(failed.status).toBe('failed');
    // A batch in hand that saw both the fault and its end would take the rows that were refused for the ones to blame.
    const redis = new Redis(system.redisUrl);
    const inHand = () => redis.llen(`{infill}:${QUEUES.batches}:active`);
    await until(async () => (await inHand()) === 0, 'what was in hand is through');
    redis.disconnect();
    system.openai.setPoison([]);

    await system.call('POST', `/api/v1/admin/backfill-embeddings/${failed.runId}/retry`);

    expect(await system.settled(failed.runId)).toMatchObject({ status: 'succeeded', rows: { embedded: 30 } });
    expect(wrongRows(await system.rows())).toEqual([]);
  });
});
