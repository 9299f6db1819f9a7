import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { capReached } from '../../src/backfill/caps.ts';
import { planRun } from '../../src/backfill/plan-run.ts';
import { planTenant } from '../../src/backfill/plan-tenant.ts';
import { runBatch } from '../../src/backfill/run-batch.ts';
import { startRun } from '../../src/backfill/start-run.ts';
import { readRunHead } from '../../src/db/run-head.ts';
import { readRunTenant } from '../../src/db/run-tenants.ts';
import type { Embedder } from '../../src/openai/embedder.ts';
import type { RunBatch } from '../../src/queue/jobs.ts';
import { openStory, type Story } from '../support/story.ts';

const TEXT = 'a note of acme';

let story: Story;

beforeAll(async () => {
  story = await openStory();
});
afterAll(() => story?.close());
beforeEach(() => story.reset());

/** Runs one batch of acme with a provider that claims to have used so many tokens. */
async function runClaiming(tokens: number) {
  await story.addRows([{ tenant: 'acme', text: TEXT }]);
  const request = {
    dryRun: false,
    batchSize: 10,
    rowLimit: null,
    tenantIds: null,
    maxTokens: 1_000,
    maxCostUsd: null,
  };
  const caller = { actor: 'operator', idempotencyKey: null };
  const { run } = await startRun(story.deps, { target: 'notes', ...request }, caller);
  await planRun(story.deps, { runId: run.runId, generation: 1 });
  if ((await story.queues.tenants.count()) > 0)
    await planTenant(story.deps, { runId: run.runId, generation: 1, tenantId: 'acme' });
  const [job] = await story.queues.batches.getJobs(['waiting', 'prioritized', 'delayed']);
  if (job === undefined) throw new Error('no batch was admitted');
  const { v: _version, ...batch } = job.data;
  const embedder: Embedder = {
    embed: async (...args) => ({ ...(await story.provider.embed(...args)), tokens }),
  };
  const never = new AbortController().signal;
  await runBatch({ ...story.deps, embedder }, batch as RunBatch, { number: 1, isLast: false }, never);
  const head = await readRunHead(story.deps.db, run.runId);
  if (head === undefined) throw new Error('the run is gone');
  return { head, tenant: await readRunTenant(story.deps.db, run.runId, 'acme') };
}

describe('the tokens that a provider claims', () => {
  test('count as claimed, as long as the texts can have so many', async () => {
    const { tenant } = await runClaiming(7);
    expect(tenant?.tokens).toBe(7);
  });

  test('are no more than bytes were sent, so that no claim ends a run by its cap', async () => {
    const { head, tenant } = await runClaiming(Number.MAX_SAFE_INTEGER);

    expect(tenant?.tokens).toBeLessThanOrEqual(TEXT.length + 16);
    expect(await capReached(story.deps, head)).toBeNull();
  });

  test('at an endpoint of the tenant’s own do not count against the caps of the run', async () => {
    const { head } = await runClaiming(7);
    const { sql } = story;
    await sql`UPDATE infill.run_tenants SET tokens = 5_000 WHERE run_id = ${head.runId}`;
    const before = await capReached(story.deps, head);

    await sql`INSERT INTO infill.tenant_credentials (tenant_id, sealed_key, fingerprint, last4, base_url)
              VALUES ('acme', '', 'f', '', 'https://own.example/v1')`;
    const after = await capReached(story.deps, head);
    await sql`DELETE FROM infill.tenant_credentials`;

    expect(before).toContain('max_tokens_reached');
    expect(after).toBeNull();
  });
});
