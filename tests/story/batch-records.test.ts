import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { controlRun } from '../../src/backfill/control-run.ts';
import type { BatchDeps } from '../../src/backfill/deps.ts';
import { planRun } from '../../src/backfill/plan-run.ts';
import { planTenant } from '../../src/backfill/plan-tenant.ts';
import { runBatch } from '../../src/backfill/run-batch.ts';
import { startRun } from '../../src/backfill/start-run.ts';
import type { Credential } from '../../src/core/credential.ts';
import { readRunTenant } from '../../src/db/run-tenants.ts';
import { readRun } from '../../src/db/runs.ts';
import type { RunBatch } from '../../src/queue/jobs.ts';
import type { Hooks } from '../support/hooked-db.ts';
import { brokenRules } from '../support/run-invariants.ts';
import { openStory, type Story } from '../support/story.ts';

const FIRST_TRY = { number: 1, isLast: false };
const never = new AbortController().signal;

let story: Story;

beforeAll(async () => {
  story = await openStory();
});
afterAll(() => story?.close());
beforeEach(() => story.reset());

async function start(changes: Partial<Parameters<typeof startRun>[1]> = {}): Promise<string> {
  const request = {
    dryRun: false,
    batchSize: 10,
    rowLimit: null,
    tenantIds: null,
    maxTokens: null,
    maxCostUsd: null,
  };
  const caller = { actor: 'operator', idempotencyKey: null };
  const { run } = await startRun(story.deps, { target: 'notes', ...request, ...changes }, caller);
  return run.runId;
}

/** Starts a run and takes it to where its batches are enqueued. */
async function planned(tenantId = 'acme'): Promise<RunBatch[]> {
  const runId = await start();
  await planRun(story.deps, { runId, generation: 1 });
  // A tenant whose rows fit one batch has it admitted with the plan.
  if ((await story.queues.tenants.count()) > 0)
    await planTenant(story.deps, { runId, generation: 1, tenantId });
  return (await waiting()).filter((batch) => batch.tenantId === tenantId);
}

async function waiting(): Promise<RunBatch[]> {
  const jobs = await story.queues.batches.getJobs(['waiting', 'prioritized', 'delayed']);
  return jobs.map(({ data: { v: _version, ...batch } }) => batch as RunBatch);
}

const notes = (...texts: string[]) => texts.map((text) => ({ tenant: 'acme', text }));
const embedded = async () =>
  (await story.rows()).filter(({ embedding }) => embedding !== null).map(({ content }) => content);

/** Loses the answer to the first commit: it came through, and nobody heard of it. */
function deafOnce(): Hooks {
  let depth = 0;
  let lost = false;
  return {
    async around(work) {
      depth++;
      const done = await work().finally(() => depth--);
      if (depth > 0 || lost || (await embedded()).length === 0) return done;
      lost = true;
      throw Object.assign(new Error('the connection is gone'), { code: 'ECONNRESET' });
    },
  };
}

/** The story's processes, where every tenant has a key of that kind. */
function withKeysLike(kind: Partial<Credential>): BatchDeps {
  const { keyring } = story.deps;
  return {
    ...story.deps,
    keyring: {
      resolve: async (tenantId) => ({ ...(await keyring.resolve(tenantId)), ...kind }),
      open: (sealed) => ({ ...keyring.open(sealed), ...kind }),
    },
  };
}

describe('a batch', () => {
  test('counts once what a commit wrote whose answer was lost: rows, requests and tokens', async () => {
    await story.addRows(notes('one', 'two', 'three'));
    const [batch] = (await planned()) as [RunBatch];

    await runBatch(story.process(deafOnce()), batch, FIRST_TRY, never);

    expect(await readRunTenant(story.deps.db, batch.runId, 'acme')).toMatchObject({
      embedded: 3,
      superseded: 0,
      requests: 1,
      tokens: 3,
    });
    expect(await brokenRules(story.sql, batch.runId)).toEqual([]);
    expect(story.provider.calls).toHaveLength(1);
  });

  test('takes no more rows than were claimed for it, however many arrive among them', async () => {
    await story.sql`INSERT INTO notes (id, tenant_id, content) OVERRIDING SYSTEM VALUE
      VALUES (1000, 'acme', 'first'), (2000, 'acme', 'last')`;
    const [batch] = (await planned()) as [RunBatch];
    await story.sql`INSERT INTO notes (id, tenant_id, content) OVERRIDING SYSTEM VALUE
      SELECT 1000 + n, 'acme', 'late ' || n FROM generate_series(1, 500) AS n`;

    await runBatch(story.deps, batch, FIRST_TRY, never);

    expect(batch.rows).toBe(2);
    expect(await embedded()).toHaveLength(2);
  });

  test('of a dry run that was planned anew meanwhile counts for nothing: its rows are gone through once', async () => {
    await story.addRows(notes('one', 'two', 'three'));
    const runId = await start({ dryRun: true });
    await planRun(story.deps, { runId, generation: 1 });
    await planTenant(story.deps, { runId, generation: 1, tenantId: 'acme' });
    const [late] = (await waiting()) as [RunBatch];
    const slow: BatchDeps = {
      ...story.deps,
      embedder: {
        embed: async (...call) => {
          const answer = await story.provider.embed(...call);
          for (const control of ['pause', 'resume'] as const) {
            await controlRun(story.deps, runId, control, { actor: 'operator' });
            const generation = (await readRun(story.deps.db, runId))?.generation ?? 0;
            await planRun(story.deps, { runId, generation });
          }
          return answer;
        },
      },
    };

    await runBatch(slow, late, FIRST_TRY, never);
    await planTenant(story.deps, { runId, generation: 3, tenantId: 'acme' });
    for (const batch of (await waiting()).filter(({ generation }) => generation === 3))
      await runBatch(story.deps, batch, FIRST_TRY, never);

    expect(await readRunTenant(story.deps.db, runId, 'acme')).toMatchObject({ embedded: 3, tokens: 6 });
    expect(await brokenRules(story.sql, runId)).toEqual([]);
  });

  test('that Postgres refuses to write fails the run, says why, and counts what was paid', async () => {
    await story.addRows(notes('one', 'two'));
    const batches = await planned();
    await story.sql.unsafe(`
      CREATE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE insufficient_privilege USING message = 'permission denied for table audit'; END $$;
      CREATE TRIGGER forbid BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION forbid()`);
    try {
      for (const batch of batches) await runBatch(story.deps, batch, FIRST_TRY, never).catch(() => undefined);
    } finally {
      await story.sql.unsafe('DROP TRIGGER forbid ON notes; DROP FUNCTION forbid()');
    }

    const run = await readRun(story.deps.db, batches[0]?.runId ?? '');
    expect(run).toMatchObject({ status: 'failed', embedded: 0, tokens: 2 });
    expect(run?.reason).toContain('permission denied for table audit');
    expect(story.provider.calls).toHaveLength(1);
  });

  test.each([
    ['own endpoint', { owner: 'tenant', baseUrl: 'https://models.acme.example/v1' }],
    ['own key at the common address', { owner: 'tenant' }],
  ] as const)(
    "whose tenant's %s gets the request called wrong stops that tenant, and not the run",
    async (_name, kind) => {
      await story.addRows([...notes('one'), { tenant: 'globex', text: 'two' }]);
      const batches = await planned();
      story.provider.failNext.push('request_invalid');

      await runBatch(withKeysLike(kind), batches[0] as RunBatch, FIRST_TRY, never);

      const { runId } = batches[0] as RunBatch;
      expect(await readRun(story.deps.db, runId)).toMatchObject({ status: 'running' });
      expect(await readRunTenant(story.deps.db, runId, 'acme')).toMatchObject({ status: 'incomplete' });
      expect(await readRunTenant(story.deps.db, runId, 'globex')).toMatchObject({ status: 'running' });
    },
  );

  test("fails the run when the request is called wrong for the platform's key", async () => {
    await story.addRows([...notes('one'), { tenant: 'globex', text: 'two' }]);
    const batches = await planned();
    story.provider.failNext.push('request_invalid');

    const platform = withKeysLike({ owner: 'platform' });
    const failed = runBatch(platform, batches[0] as RunBatch, FIRST_TRY, never);

    await expect(failed).rejects.toMatchObject({ code: 'request_invalid' });
    expect(await readRun(story.deps.db, batches[0]?.runId ?? '')).toMatchObject({ status: 'failed' });
  });
});

describe('a run whose rows cannot be counted', () => {
  const broken = async <T>(work: () => Promise<T>): Promise<T> => {
    // The catalog was looked at a moment ago and is right; the statement is refused all the same.
    await story.sql.unsafe('ALTER TABLE notes RENAME COLUMN content TO elsewhere');
    return work().finally(() => story.sql.unsafe('ALTER TABLE notes RENAME COLUMN elsewhere TO content'));
  };

  test('can be cancelled', async () => {
    await story.addRows(notes('one'));
    const [batch] = (await planned()) as [RunBatch];
    await controlRun(story.deps, batch.runId, 'cancel', { actor: 'operator' });

    await broken(() => planRun(story.deps, { runId: batch.runId, generation: 2 }));

    expect(await readRun(story.deps.db, batch.runId)).toMatchObject({ status: 'cancelled' });
  });

  test('fails and says what Postgres refuses, rather than being planned again for ever', async () => {
    await story.addRows(notes('one'));
    const runId = await start();

    await broken(() => planRun(story.deps, { runId, generation: 1 }));

    const run = await readRun(story.deps.db, runId);
    expect(run?.status).toBe('failed');
    expect(run?.reason).toMatch(/content/);
  });
});
