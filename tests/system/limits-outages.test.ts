import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Fault } from '../../dev/openai-server/faults.ts';
import {
  ALL_ATTEMPTS_MS,
  isRealPostgres,
  type Row,
  type System,
  startSystem,
  until,
  wrongRows,
} from '../support/system.ts';

let system: System;
const SLOTS = 16;
const BATCH_ROWS = 4;

beforeAll(async () => {
  system = await startSystem({
    // Three minutes of outage become seconds: the breaker's rests are a hundredth of what they are in production.
    env: { WORKER_CONCURRENCY: String(SLOTS), BREAKER_OPEN_MS: '300', BREAKER_OPEN_MAX_MS: '600' },
  });
  // Keeps every vector that was ever written, also one that is replaced later.
  await system.sql.unsafe(`
    CREATE TABLE written (id bigint, tenant_id text, content text, embedding text);
    CREATE FUNCTION keep_written() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN INSERT INTO written VALUES (new.id, new.tenant_id, new.content, new.embedding::text); RETURN new; END $$;
    CREATE TRIGGER keep_written AFTER UPDATE ON notes FOR EACH ROW WHEN (new.embedding IS NOT NULL) EXECUTE FUNCTION keep_written()`);
});
afterAll(() => system?.close());
beforeEach(async () => {
  await system.sql`TRUNCATE notes, written, infill.quarantined_rows`;
  system.openai.faults.clear();
  system.openai.setLatency({ fixedMs: 0 });
  system.openai.ledger.reset();
});

const notes = (tenant: string, count: number) =>
  Array.from({ length: count }, (_, index) => ({ tenant, text: `${tenant} note ${index}` }));

type LogEvent = {
  readonly msg: string;
  readonly runId?: string;
  readonly attempt?: number;
  readonly code?: string;
};

const events = (): LogEvent[] =>
  system
    .output()
    .split('\n')
    .filter((line) => line.startsWith('{') && line.endsWith('}'))
    .map((line) => JSON.parse(line));

const start = async (query: string): Promise<string> =>
  (await system.call('POST', `/api/v1/admin/backfill-embeddings${query}`)).body.runId;

const written = async (): Promise<Row[]> => [
  ...(await system.sql<Row[]>`SELECT id, tenant_id, content, embedding FROM written`),
];

/** A page with status 200 is what a gateway may answer in the place of a provider that is down. */
async function setOutage(outage: 'unavailable' | 'refuse' | 'page' | 'off'): Promise<void> {
  if (outage === 'page') system.openai.faults.add({ action: { kind: 'html', status: 200 } });
  else await system.openai.faults.setOutage(outage);
  if (outage === 'off') system.openai.faults.clear();
}

describe.each(['unavailable', 'refuse', 'page'] as const)(
  'a provider that is down (%s) in the middle of a run',
  (outage) => {
    test('fails nothing and uses up no attempt: the run waits, goes on by itself, and succeeds', async () => {
      const rows = isRealPostgres() ? 600 : 200;
      await system.addRows([...notes('acme', rows), ...notes('globex', 40)]);
      system.openai.setLatency({ fixedMs: 20 });
      const pausedBefore = system.output().split('account_paused').length;

      const runId = await start(`?batchSize=${BATCH_ROWS}`);
      await until(
        async () => system.openai.ledger.entries.filter(({ billed }) => billed).length >= 8,
        'the run is at work',
      );
      await setOutage(outage);
      const lastCall = system.openai.ledger.entries.length;
      // Batches that came, found the provider down, and were sent away: several times over, as in a long outage.
      await until(
        async () => system.output().split('account_paused').length > pausedBefore + 3 * SLOTS,
        'the outage lasts',
      );
      expect((await system.run(runId)).status).toBe('running');
      const during = system.openai.ledger.entries.slice(lastCall);
      await setOutage('off');
      const run = await system.settled(runId);

      expect(run).toMatchObject({
        status: 'succeeded',
        reason: null,
        rows: { embedded: rows + 40, failed: 0, quarantined: 0, remaining: 0 },
      });
      expect(wrongRows(await system.rows())).toEqual([]);
      const ended = events().filter((event) => event.msg === 'batch_ended' && event.runId === runId);
      expect(ended.length).toBeGreaterThanOrEqual(rows / BATCH_ROWS);
      expect(ended.filter(({ attempt }) => attempt !== 1)).toEqual([]);
      // The breaker keeps the batches away: besides those that were under way only single neutral words are sent.
      expect(during.filter(({ texts }) => texts[0] !== 'ping').length).toBeLessThanOrEqual(2 * SLOTS);
      // Paid for twice is only what was under way as the provider went away: where it cut the connections, it may have
      // answered a batch of each slot in vain.
      const paid = system.openai.ledger.entries
        .filter(({ status, billed }) => status === 200 && billed)
        .flatMap(({ call, texts }) => texts.map((text) => ({ call, text })))
        .filter(({ text }) => text !== 'ping');
      const firstCalls = new Map(paid.toReversed().map(({ call, text }) => [text, call]));
      const again = paid.filter(({ call, text }) => firstCalls.get(text) !== call);
      expect(again.length).toBeLessThanOrEqual(outage === 'refuse' ? SLOTS * BATCH_ROWS : 0);
      expect(again.filter(({ text }) => (firstCalls.get(text) ?? 0) > lastCall)).toEqual([]);
    });
  },
);

const MALFORMED: readonly Fault['action'][] = [
  { kind: 'short' },
  { kind: 'long' },
  { kind: 'duplicate_index' },
  { kind: 'wrong_dimensions', item: 2 },
  { kind: 'wrong_dimensions', dimensions: 0 },
  { kind: 'nan', item: 1 },
  { kind: 'infinite', item: 3 },
  { kind: 'zeros', item: 1 },
  { kind: 'cut' },
  { kind: 'html', status: 200 },
  { kind: 'html', status: 502 },
  { kind: 'error_in_200' },
  { kind: 'reset' },
];

describe('a malformed answer', () => {
  test.each(MALFORMED)('stores nothing, and its rows are filled when it is over: %o', async (action) => {
    await system.addRows(notes('acme', 12));
    const fault = system.openai.faults.add({ when: { inputsMin: 4 }, times: 2, action });

    const run = await system.backfill('?batchSize=4');

    expect(system.openai.faults.list().find(({ id }) => id === fault)?.struck).toBe(2);
    expect(run).toMatchObject({
      status: 'succeeded',
      rows: { embedded: 12, failed: 0, quarantined: 0, remaining: 0 },
    });
    const vectors = await written();
    expect(vectors).toHaveLength(12);
    expect(wrongRows(vectors)).toEqual([]);
  });

  test('that only has its vectors in another order is stored right', async () => {
    await system.addRows(notes('acme', 30));
    system.openai.faults.add({ action: { kind: 'reordered' } });

    const run = await system.backfill('?batchSize=10');

    expect(run).toMatchObject({ status: 'succeeded', requests: 3, rows: { embedded: 30 } });
    expect(wrongRows(await written())).toEqual([]);
  });

  test('of a model that makes vectors of another length stops the tenant at once and says so', async () => {
    await system.addRows(notes('acme', 40));
    system.openai.faults.add({ action: { kind: 'wrong_dimensions', dimensions: 5 } });

    const run = await system.backfill('?batchSize=4');

    expect(run).toMatchObject({ status: 'incomplete', rows: { embedded: 0, failed: 0, remaining: 40 } });
    expect(run.reason).toContain('acme: model_wrong_dimensions');
    // Each batch that was under way sends its texts and a plain word, once.
    expect(system.openai.ledger.entries.length).toBeLessThanOrEqual(2 * 10);
    expect(await written()).toEqual([]);
  });

  test(
    'that comes for ever leaves its rows missing and says why, and a retry fills them',
    async () => {
      await system.addRows(notes('acme', 8));
      const fault = system.openai.faults.add({
        when: { textIncludes: 'acme note 1' },
        action: { kind: 'zeros' },
      });

      const runId = await start('?batchSize=4');
      const run = await system.settled(runId, ALL_ATTEMPTS_MS);
      expect(run).toMatchObject({
        status: 'incomplete',
        rows: { embedded: 7, failed: 1, quarantined: 0, remaining: 1 },
      });
      expect(run.reason).toContain('answer_all_zero');
      expect(wrongRows(await written())).toEqual([]);

      system.openai.faults.clear(fault);
      await system.call('POST', `/api/v1/admin/backfill-embeddings/${runId}/retry`);
      expect(await system.settled(runId)).toMatchObject({
        status: 'succeeded',
        rows: { embedded: 8, failed: 0 },
      });
      expect(wrongRows(await system.rows())).toEqual([]);
    },
    ALL_ATTEMPTS_MS + 60_000,
  );
});
