import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { planRun } from '../../src/backfill/plan-run.ts';
import { planTenant } from '../../src/backfill/plan-tenant.ts';
import { runBatch } from '../../src/backfill/run-batch.ts';
import { startRun } from '../../src/backfill/start-run.ts';
import { EmbedError } from '../../src/core/failures.ts';
import { runMessage } from '../../src/core/run-message.ts';
import { readRun } from '../../src/db/runs.ts';
import type { RunBatch } from '../../src/queue/jobs.ts';
import { openStory, type Story } from '../support/story.ts';

const TEN_MINUTES_MS = 600_000;
const FIRST_TRY = { number: 1, isLast: false };

let story: Story;

beforeAll(async () => {
  story = await openStory();
});
afterAll(() => story?.close());
beforeEach(() => story.reset());

async function onlyBatch(): Promise<RunBatch> {
  await story.addRows([{ tenant: 'acme', text: 'a note' }]);
  const request = {
    dryRun: false,
    batchSize: 10,
    rowLimit: null,
    tenantIds: null,
    maxTokens: null,
    maxCostUsd: null,
  };
  const caller = { actor: 'operator', idempotencyKey: null };
  const { run } = await startRun(story.deps, { target: 'notes', ...request }, caller);
  const key = { runId: run.runId, generation: 1 };
  await planRun(story.deps, key);
  if ((await story.queues.tenants.count()) > 0) await planTenant(story.deps, { ...key, tenantId: 'acme' });
  const [job] = await story.queues.batches.getJobs(['waiting', 'prioritized']);
  const { v: _v, ...batch } = job?.data ?? {};
  return batch as RunBatch;
}

async function messageOf({ runId }: RunBatch): Promise<string> {
  const run = await readRun(story.deps.db, runId);
  if (run === undefined) throw new Error('the run is gone');
  return runMessage(run);
}

test("a wait of a day is shown in the run's message, and is asked again after ten minutes at the latest", async () => {
  const told: (number | null)[] = [];
  let isLimited = true;
  const deps = {
    ...story.deps,
    pacer: {
      ...story.deps.pacer,
      refused: async (_place: unknown, { retryAfterMs }: { retryAfterMs: number | null }) =>
        void told.push(retryAfterMs),
    },
    embedder: {
      embed: async (...asked: Parameters<typeof story.deps.embedder.embed>) => {
        if (!isLimited) return story.deps.embedder.embed(...asked);
        throw new EmbedError('rate_limited', {
          status: 429,
          retryAfterMs: 86_400_000,
          providerMessage: 'Please retry after 86400 seconds.',
        });
      },
    },
  } as typeof story.deps;
  const batch = await onlyBatch();

  const failure = await runBatch(deps, batch, FIRST_TRY, new AbortController().signal).catch(
    (error: unknown) => error,
  );

  expect(failure).toMatchObject({ code: 'rate_limited', retryAfterMs: TEN_MINUTES_MS });
  expect(told).toEqual([TEN_MINUTES_MS]);
  expect(await messageOf(batch)).toMatch(
    /On hold: the provider's limit lets nothing through; it is asked again at \d{4}-.*Z \(Please retry after 86400 seconds\.\)\.$/,
  );

  isLimited = false;
  expect(await runBatch(deps, batch, FIRST_TRY, new AbortController().signal)).toBe('done');
  expect(await messageOf(batch)).not.toContain('On hold');
});
