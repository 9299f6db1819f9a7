import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { BatchDeps } from '../../src/backfill/deps.ts';
import { planRun } from '../../src/backfill/plan-run.ts';
import { planTenant } from '../../src/backfill/plan-tenant.ts';
import { runBatch } from '../../src/backfill/run-batch.ts';
import { startRun } from '../../src/backfill/start-run.ts';
import { openDatabase } from '../../src/db/client.ts';
import { openLane } from '../../src/db/lane.ts';
import type { RunBatch } from '../../src/queue/jobs.ts';
import { openStory, type Story } from '../support/story.ts';
import { startWireCounter, type WireCounter } from '../support/wire-counter.ts';

let story: Story;
let counter: WireCounter;
let deps: BatchDeps;
const closing: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  story = await openStory();
  counter = await startWireCounter(story.databaseUrl);
  const options = { connectionsMax: 1, applicationName: 'infill-counted' };
  const { db, close } = openDatabase(counter.url, options);
  const lane = openLane(counter.url, options);
  closing.push(close, () => lane.close());
  deps = { ...story.deps, db, lane };
});
afterAll(async () => {
  for (const close of closing) await close();
  await counter?.close();
  await story?.close();
});

/** Batches of one tenant on Redis, in the order of their sequence. */
async function waiting(): Promise<RunBatch[]> {
  const jobs = await story.queues.batches.getJobs(['waiting', 'prioritized', 'delayed']);
  const batches = jobs.map(({ data: { v: _version, ...batch } }) => batch as RunBatch);
  return batches.sort((a, b) => a.sequence - b.sequence);
}

async function take(batch: RunBatch): Promise<void> {
  await runBatch(deps, batch, { number: 1, isLast: false }, new AbortController().signal);
  const jobs = await story.queues.batches.getJobs(['waiting', 'prioritized', 'delayed']);
  const job = jobs.find(({ data }) => data.sequence === batch.sequence);
  await job?.remove();
}

test('a batch takes the statements and round trips that docs/benchmarks.md names', async () => {
  await story.addRows(Array.from({ length: 40 }, (_, n) => ({ tenant: 'acme', text: `note ${n}` })));
  const request = {
    dryRun: false,
    batchSize: 5,
    rowLimit: null,
    tenantIds: null,
    maxTokens: null,
    maxCostUsd: null,
  };
  const caller = { actor: 'operator', idempotencyKey: null };
  const { run } = await startRun(story.deps, { target: 'notes', ...request }, caller);
  await planRun(story.deps, { runId: run.runId, generation: 1 });
  await planTenant(story.deps, { runId: run.runId, generation: 1, tenantId: 'acme' });

  // The first batches open the connections and prepare the statements.
  for (const batch of (await waiting()).slice(0, 2)) await take(batch);
  counter.reset();
  const [batch] = await waiting();
  if (batch === undefined) throw new Error('the tenant has more batches');
  await take(batch);

  const page = readFileSync('docs/benchmarks.md', 'utf8');
  const [, statements, roundTrips] = /\| now \| (\d+) \| (\d+) \|/.exec(page) ?? [];
  expect(counter.counts()).toEqual({
    statements: Number(statements),
    roundTrips: Number(roundTrips),
    parsed: 0,
  });
});
