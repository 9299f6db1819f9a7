import { afterAll, beforeAll, expect, test } from 'vitest';
import { planRun } from '../../src/backfill/plan-run.ts';
import { runBatch } from '../../src/backfill/run-batch.ts';
import { startRun } from '../../src/backfill/start-run.ts';
import type { RunBatch } from '../../src/queue/jobs.ts';
import { openStory, type Story } from '../support/story.ts';

let story: Story;
beforeAll(async () => {
  story = await openStory();
});
afterAll(() => story?.close());

test('a text of megabytes is set aside without being read, and its neighbours are embedded', async () => {
  await story.addRows([
    { tenant: 'acme', text: 'short' },
    { tenant: 'acme', text: null },
    { tenant: 'acme', text: 'also short' },
  ]);
  // Blanks: of all texts those that the fewest tokens hold.
  await story.sql`UPDATE notes SET content = 'long' || repeat(' ', 3000000) || 'end' WHERE content IS NULL`;
  const request = {
    dryRun: false,
    batchSize: 10,
    rowLimit: null,
    tenantIds: null,
    maxTokens: null,
    maxCostUsd: null,
  };
  const { run } = await startRun(
    story.deps,
    { target: 'notes', ...request },
    { actor: 'operator', idempotencyKey: null },
  );
  await planRun(story.deps, { runId: run.runId, generation: 1 });
  const [job] = await story.queues.batches.getJobs(['waiting', 'prioritized', 'delayed']);
  const { v: _version, ...batch } = job?.data ?? {};
  let longest = 0;
  const tokenizer = {
    countTokens: (text: string) => {
      longest = Math.max(longest, text.length);
      return 1;
    },
    truncateToTokens: (text: string) => text,
  };

  await runBatch(
    { ...story.deps, tokenizer },
    batch as RunBatch,
    { number: 1, isLast: false },
    new AbortController().signal,
  );

  expect(story.provider.calls.flat()).toEqual(['short', 'also short']);
  expect(longest).toBeLessThan(200_000);
  const quarantined = await story.sql`SELECT row_id, code FROM infill.quarantined_rows`;
  expect([...quarantined]).toEqual([{ row_id: '2', code: 'input_too_long' }]);
  expect((await story.rows()).map(({ embedding }) => embedding !== null)).toEqual([true, false, true]);
});
