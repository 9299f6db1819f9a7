import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { controlRun } from '../../src/backfill/control-run.ts';
import { LongWaits } from '../../src/backfill/long-waits.ts';
import { planRun } from '../../src/backfill/plan-run.ts';
import { planTenant } from '../../src/backfill/plan-tenant.ts';
import { type BatchOutcome, runBatch } from '../../src/backfill/run-batch.ts';
import { startRun } from '../../src/backfill/start-run.ts';
import { EmbedError } from '../../src/core/failures.ts';
import { readRun } from '../../src/db/runs.ts';
import type { Wait } from '../../src/pacing/pacer.ts';
import { type RunBatch, runBatchId } from '../../src/queue/jobs.ts';
import { openStory, POISON, type Story } from '../support/story.ts';
import { until } from '../support/system.ts';

let story: Story;

beforeAll(async () => {
  story = await openStory();
});
afterAll(() => story?.close());
beforeEach(() => story.reset());

const MINUTE_MS = 60_000;
/** An attempt from which on a batch is sent in two requests. */
const HALVED = { number: 6, isLast: false };

/** Plans the batches of one tenant's texts. */
async function batchesOf(texts: readonly string[], batchSize: number): Promise<RunBatch[]> {
  await story.addRows(texts.map((text) => ({ tenant: 'acme', text })));
  const request = { target: 'notes', batchSize, dryRun: false, rowLimit: null, tenantIds: null };
  const { run } = await startRun(
    story.deps,
    { ...request, maxTokens: null, maxCostUsd: null },
    { actor: 'operator', idempotencyKey: null },
  );
  const key = { runId: run.runId, generation: (await readRun(story.deps.db, run.runId))?.generation ?? 0 };
  await planRun(story.deps, key);
  // A tenant whose rows fit one batch has it admitted with the plan.
  if ((await story.queues.tenants.count()) > 0) await planTenant(story.deps, { ...key, tenantId: 'acme' });
  const jobs = await story.queues.batches.getJobs(['waiting', 'prioritized']);
  return jobs
    .map(({ data: { v: _v, ...data } }) => data as RunBatch)
    .toSorted((one, other) => one.sequence - other.sequence);
}

/** A worker whose account lets a request through, or answers with a wait, as `answer` says. */
function workerOf(answer: (asked: number) => Wait | undefined, gate = story.deps.gate) {
  let asked = 0;
  /** Who gave up a place in the line. */
  const gone: string[] = [];
  const { deps } = story;
  const pacer: typeof deps.pacer = {
    ...deps.pacer,
    reserve: async (...args) => answer(asked++) ?? deps.pacer.reserve(...args),
    left: async (_credential, _model, { waiter }) => void gone.push(waiter),
  };
  const worker = { ...deps, pacer, gate, longWaits: new LongWaits() };
  const work = (batch: RunBatch | undefined, attempt = { number: 1, isLast: false }) =>
    runBatch(worker, batch as RunBatch, attempt, new AbortController().signal).catch((error: unknown) =>
      error instanceof EmbedError ? error.code : String(error),
    ) as Promise<BatchOutcome | string>;
  return { work, asked: () => asked, gone };
}

const wait = (waitMs: number, because: Wait['because'] = 'requests'): Wait => ({
  go: false,
  waitMs,
  because,
});
const embedded = async () =>
  (await story.rows()).filter(({ embedding }) => embedding !== null).map(({ content }) => content);

describe('a batch of which a request has failed', () => {
  test.each([1_500, 10 * MINUTE_MS])(
    'sends the requests behind it after a wait of %d ms, and loses its attempt',
    async (waitMs) => {
      const [batch] = await batchesOf(['one', 'two', 'three', 'four'], 4);
      story.provider.failNext.push('provider_failed');
      const { work } = workerOf((asked) => (asked === 1 ? wait(waitMs) : undefined));

      expect(await work(batch, HALVED)).toBe('provider_failed');

      expect(await embedded()).toEqual(['three', 'four']);
    },
  );

  test('loses its attempt when it is sent away for very long', async () => {
    const [batch] = await batchesOf(['one', 'two'], 2);
    const { work } = workerOf((asked) => (asked % 2 === 1 ? wait(60 * MINUTE_MS, 'cooldown') : undefined));

    story.provider.failNext.push('provider_failed');
    expect(await work(batch, HALVED)).toBe('provider_failed');
    // But no row is given up that was not tried.
    story.provider.failNext.push('provider_failed');
    expect(await work(batch, { ...HALVED, isLast: true })).toBe('paced');
  });
});

describe('a batch that looks for the row that is refused', () => {
  test('sits out a wait of any length, once one of its key has the account to itself', async () => {
    const [first, second] = await batchesOf(['one', POISON, 'three', 'four'], 2);
    let isLong = true;
    const { work, asked, gone } = workerOf((nth) => (nth > 0 && isLong ? wait(10 * MINUTE_MS) : undefined));

    const searching = work(first);
    await until(async () => asked() === 2, 'the first batch was refused, and waits');
    const other = await work(second);
    const askedByThen = asked();
    isLong = false;

    expect(other).toBe('paced');
    expect(askedByThen).toBe(2);
    expect(gone, 'the one that stays away is in nobody’s way').toEqual([
      runBatchId({ ...(second as RunBatch), generation: 0 }),
    ]);
    expect(await searching).toBe('done');
    expect(await work(second)).toBe('done');
    expect(await embedded()).toEqual(['one', 'three', 'four']);
  });

  test('does not sit on when it is switched off', async () => {
    const [batch] = await batchesOf(['one', POISON], 2);
    let held = false;
    const { work, asked } = workerOf(
      (nth) => (nth > 0 ? wait(10 * MINUTE_MS) : undefined),
      async () => (held ? { kind: 'held', reason: 'switched off' } : { kind: 'open' }),
    );

    const searching = work(batch);
    await until(async () => asked() === 2, 'the batch was refused, and waits');
    held = true;

    expect(await searching).toBe('paced');
    expect(await work(batch)).toBe('held');
  });

  test('does not sit on when its run has stopped', async () => {
    const [batch] = await batchesOf(['one', POISON], 2);
    const { work, asked } = workerOf((nth) => (nth > 0 ? wait(10 * MINUTE_MS) : undefined));

    const searching = work(batch);
    await until(async () => asked() === 2, 'the batch was refused, and waits');
    await controlRun(story.deps, batch?.runId ?? '', 'cancel', { actor: 'operator' });

    expect(await searching).toBe('left');
    expect(await embedded()).toEqual([]);
  });
});

describe('long waits', () => {
  const one = { keyName: 'k', waiter: 'one' };
  const other = { keyName: 'k', waiter: 'other' };
  const elsewhere = { keyName: 'another', waiter: 'elsewhere' };

  test('are sat out by one batch a key, short ones by all', () => {
    const waits = new LongWaits();

    expect(waits.sitsOut(one, 61_000)).toBe(true);
    expect(waits.sitsOut(one, 90_000)).toBe(true);
    expect(waits.sitsOut(other, 61_000)).toBe(false);
    expect(waits.sitsOut(other, 60_000)).toBe(true);
    expect(waits.sitsOut(elsewhere, 61_000)).toBe(true);
    expect([one, other, elsewhere].map((each) => waits.isTaken(each))).toEqual([false, true, false]);
  });

  test('are for the next one when the one that sits is through', () => {
    const waits = new LongWaits();
    waits.sitsOut(one, 61_000);

    waits.leave(other);
    expect(waits.isTaken(other)).toBe(true);
    waits.leave(one);
    expect(waits.isTaken(other)).toBe(false);
    expect(waits.sitsOut(other, 61_000)).toBe(true);
  });
});
