import { Registry } from 'prom-client';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { planRun } from '../../src/backfill/plan-run.ts';
import { startRun } from '../../src/backfill/start-run.ts';
import { isSettled } from '../../src/core/run.ts';
import { readRun } from '../../src/db/runs.ts';
import { planRunId } from '../../src/queue/jobs.ts';
import { createWorkerMetrics } from '../../src/workers/metrics.ts';
import { startWorkers } from '../../src/workers/start.ts';
import { openStory, type Story } from '../support/story.ts';
import { until, wrongRows } from '../support/system.ts';

const ROWS = 40;

let story: Story;

beforeAll(async () => {
  story = await openStory();
});
afterAll(() => story?.close());

test('a run whose job died on its way to wait for its tenants settles when they are through, not before', async () => {
  await story.addRows(
    Array.from({ length: ROWS }, (_, index) => ({ tenant: 'acme', text: `note ${index}` })),
  );
  const request = { target: 'notes', dryRun: false, batchSize: 5, rowLimit: null, tenantIds: null };
  const { run } = await startRun(
    story.deps,
    { ...request, maxTokens: null, maxCostUsd: null },
    { actor: 'operator', idempotencyKey: null },
  );
  const { runId } = run;
  await planRun(story.deps, { runId, generation: 1 });
  const job = await story.queues.runs.getJob(planRunId({ runId, generation: 1 }));
  await job?.updateData({ ...job.data, step: 'settle' });

  const workers = startWorkers(
    {
      ...story.deps,
      redis: story.redis,
      keyPrefix: '{infill}',
      progress: { report: async () => undefined, reportSettled: async () => undefined },
      metrics: createWorkerMetrics(new Registry()),
    },
    { concurrency: 2, retryBackoffMs: 20, pollEveryMs: 100 },
  );
  try {
    const present = () => readRun(story.deps.db, runId);
    await until(async () => isSettled((await present())?.status ?? 'queued'), 'the run settles');

    expect(await present()).toMatchObject({ status: 'succeeded', reason: null, embedded: ROWS });
    expect(wrongRows(await story.rows())).toEqual([]);
  } finally {
    await workers.close();
  }
});
