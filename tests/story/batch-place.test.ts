import { afterAll, beforeAll, expect, test } from 'vitest';
import { controlRun } from '../../src/backfill/control-run.ts';
import { planRun } from '../../src/backfill/plan-run.ts';
import { runBatch } from '../../src/backfill/run-batch.ts';
import { startRun } from '../../src/backfill/start-run.ts';
import { readRun } from '../../src/db/runs.ts';
import type { RunBatch } from '../../src/queue/jobs.ts';
import { openStory, type Story } from '../support/story.ts';

let story: Story;

beforeAll(async () => {
  story = await openStory();
});
afterAll(() => story?.close());

test('a batch that is planned anew takes over its place in the line of an account, and leaves none behind', async () => {
  await story.addRows([{ tenant: 'acme', text: 'a note' }]);
  const waiters: (string | undefined)[] = [];
  const pacer: Story['deps']['pacer'] = {
    ...story.deps.pacer,
    reserve: async (_credential, _model, { waiter }) => {
      waiters.push(waiter);
      return { go: false, because: 'requests', waitMs: 70_000 };
    },
  };
  const request = { batchSize: 10, dryRun: false, rowLimit: null, tenantIds: null, maxTokens: null };
  const { run } = await startRun(
    story.deps,
    { target: 'notes', maxCostUsd: null, ...request },
    { actor: 'operator', idempotencyKey: null },
  );
  /** Plans the run as it is, and lets its batch ask for a place in vain. */
  const ask = async () => {
    const key = { runId: run.runId, generation: (await readRun(story.deps.db, run.runId))?.generation ?? 0 };
    await planRun(story.deps, key);
    const jobs = await story.queues.batches.getJobs(['waiting', 'prioritized']);
    const batch = jobs
      .map(({ data: { v: _v, ...data } }) => data as RunBatch)
      .find((one) => one.generation === key.generation);
    const attempt = { number: 1, isLast: false };
    const never = new AbortController().signal;
    await expect(runBatch({ ...story.deps, pacer }, batch as RunBatch, attempt, never)).rejects.toMatchObject(
      { code: 'paced' },
    );
    return key;
  };

  const first = await ask();
  await controlRun(story.deps, run.runId, 'pause', { actor: 'operator' });
  await planRun(story.deps, first);
  await controlRun(story.deps, run.runId, 'resume', { actor: 'operator' });
  const second = await ask();

  expect(second.generation).toBeGreaterThan(first.generation);
  expect(waiters).toHaveLength(2);
  expect(waiters[1]).toBe(waiters[0]);
});
