import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { planRun } from '../../src/backfill/plan-run.ts';
import { startRequestedRuns } from '../../src/backfill/requested-runs.ts';
import { startRun } from '../../src/backfill/start-run.ts';
import { openStory, type Story } from '../support/story.ts';

let story: Story;

beforeAll(async () => {
  story = await openStory();
});
afterAll(() => story.close());
beforeEach(async () => {
  await story.reset();
  await story.sql`DELETE FROM infill.run_requests`;
});

const start = () => startRequestedRuns(story.deps, 'w1');
const requests = () =>
  story.sql`SELECT target, tenant_id, status, reason, run_id, requested_by FROM infill.run_requests ORDER BY requested_at, tenant_id`;
const runs = () => story.sql`SELECT run_id, status, origin, tenant_ids FROM infill.runs ORDER BY created_at`;
const events = () =>
  story.sql`SELECT actor, action, subject, details FROM infill.audit_events ORDER BY event_id`;
const REQUEST = {
  target: 'notes',
  dryRun: false,
  batchSize: 50,
  rowLimit: null,
  tenantIds: null,
  maxTokens: null,
  maxCostUsd: null,
};

describe('a run that is asked for in SQL', () => {
  test('is started when the transaction has committed, and named in the audit', async () => {
    const [row] = await story.sql`SELECT infill.request_backfill('notes') AS id`;
    const [runId] = await start();

    expect(await requests()).toMatchObject([{ target: 'notes', status: 'started', run_id: runId }]);
    expect(row?.id).toMatch(/^[0-9a-f-]{36}$/);
    expect(await runs()).toMatchObject([
      { run_id: runId, status: 'queued', origin: 'sql', tenant_ids: null },
    ]);
    expect(await events()).toMatchObject([
      { actor: 'request_backfill', action: 'run.started', subject: 'notes', details: { requests: 1 } },
    ]);
    expect(await story.queues.runs.getJobCounts('waiting')).toEqual({ waiting: 1 });
  });

  test('is not started when the transaction rolls back', async () => {
    const rolledBack = story.sql.begin(async (tx) => {
      await tx`SELECT infill.request_backfill('notes')`;
      throw new Error('the migration fails');
    });

    await expect(rolledBack).rejects.toThrow('the migration fails');
    expect(await start()).toEqual([]);
    expect(await requests()).toEqual([]);
  });

  test('serves all requests of its target, for the tenants that they name', async () => {
    await story.sql`SELECT infill.request_backfill('notes', tenant) FROM unnest(ARRAY['acme', 'globex', 'acme']) AS t (tenant)`;
    const started = await start();

    expect(started).toHaveLength(1);
    expect((await requests()).map(({ status }) => status)).toEqual(['started', 'started', 'started']);
    expect((await runs())[0]?.tenant_ids.toSorted()).toEqual(['acme', 'globex']);
  });

  test('is for all tenants when one request is', async () => {
    await story.sql`SELECT infill.request_backfill('notes', 'acme')`;
    await story.sql`SELECT infill.request_backfill(target => 'notes')`;
    await start();

    expect((await runs())[0]?.tenant_ids).toBeNull();
  });

  test('waits while the target has an unsettled run, and then follows', async () => {
    const first = await startRun(story.deps, REQUEST, { actor: 'test', idempotencyKey: null });
    await planRun(story.deps, { runId: first.run.runId, generation: 1 });
    await story.sql`SELECT infill.request_backfill('notes')`;

    expect(await start()).toEqual([]);
    expect(await requests()).toMatchObject([{ status: 'waiting', run_id: null }]);
    await story.sql`UPDATE infill.runs SET status = 'succeeded', settled_at = now()`;
    expect(await start()).toHaveLength(1);
  });

  test('is the run that waits to begin, if that is for all rows', async () => {
    const first = await startRun(story.deps, REQUEST, { actor: 'test', idempotencyKey: null });
    await story.sql`SELECT infill.request_backfill('notes')`;

    expect(await start()).toEqual([]);
    expect(await requests()).toMatchObject([{ status: 'started', run_id: first.run.runId }]);
  });

  test('is not that of a dry run that waits to begin', async () => {
    await startRun(story.deps, { ...REQUEST, dryRun: true }, { actor: 'test', idempotencyKey: null });
    await story.sql`SELECT infill.request_backfill('notes')`;

    expect(await start()).toEqual([]);
    expect(await requests()).toMatchObject([{ status: 'waiting' }]);
  });

  test('starts once, however many workers look at the same time', async () => {
    await story.sql`SELECT infill.request_backfill('notes')`;
    const started = await Promise.all(
      ['w1', 'w2', 'w3'].map((holder) => startRequestedRuns(story.deps, holder)),
    );

    expect(started.flat()).toHaveLength(1);
    expect(await runs()).toHaveLength(1);
  });

  test('stays, when Redis does not take its job, for the sweep to enqueue', async () => {
    await story.sql`SELECT infill.request_backfill('notes')`;
    const runsQueue = { ...story.queues.runs, addBulk: () => Promise.reject(new Error('Redis is away')) };
    const queues = { ...story.queues, runs: runsQueue as unknown as typeof story.queues.runs };

    await expect(startRequestedRuns({ ...story.deps, queues }, 'w1')).rejects.toThrow('Redis is away');
    expect(await requests()).toMatchObject([{ status: 'started' }]);
    expect(await runs()).toMatchObject([{ status: 'queued' }]);
  });
});

describe('a request that cannot be served', () => {
  test('is refused in words and once in the audit, when no target has its name', async () => {
    await story.sql`SELECT infill.request_backfill('nots')`;
    await start();
    await start();

    expect(await requests()).toMatchObject([
      { status: 'refused', reason: expect.stringContaining('"nots" is not in the targets file') },
    ]);
    expect(await events()).toMatchObject([
      { actor: 'request_backfill', action: 'run_request.refused', subject: 'nots', details: { requests: 1 } },
    ]);
  });

  test('is taken up within a day by a worker that knows its target', async () => {
    await story.sql`SELECT infill.request_backfill('notes')`;
    const older = { ...story.deps, inspect: async () => undefined };
    await startRequestedRuns(older, 'w1');

    expect(await requests()).toMatchObject([{ status: 'refused' }]);
    expect(await start()).toHaveLength(1);
    expect(await requests()).toMatchObject([{ status: 'started', reason: null }]);
  });

  test('stays refused when it is older than a day', async () => {
    await story.sql`SELECT infill.request_backfill('notes')`;
    await startRequestedRuns({ ...story.deps, inspect: async () => undefined }, 'w1');
    await story.sql`UPDATE infill.run_requests SET requested_at = now() - interval '25 hours'`;

    expect(await start()).toEqual([]);
  });

  test('does not keep others from being served', async () => {
    await story.sql`SELECT infill.request_backfill('nots'), infill.request_backfill('notes')`;

    expect(await start()).toHaveLength(1);
  });

  test('is an error at once when it names no target', async () => {
    for (const name of [null, '', ' ', 'x'.repeat(101)]) {
      await expect(story.sql`SELECT infill.request_backfill(${name})`).rejects.toThrow(/expects/);
    }
  });
});

describe('the right to ask', () => {
  test("is nobody else's until it is granted, and needs no right on any table", async () => {
    const asking = (grants: string) =>
      story.sql.begin(async (tx) => {
        await tx.unsafe(`CREATE ROLE infill_asker; GRANT USAGE ON SCHEMA infill TO infill_asker; ${grants}`);
        await tx.unsafe('SET LOCAL ROLE infill_asker');
        // What the caller's path says changes nothing.
        await tx.unsafe('SET LOCAL search_path = nowhere');
        const rows = await tx`SELECT infill.request_backfill('notes') AS id`;
        throw new Error(`asked: ${rows.length}`);
      });

    await expect(asking('')).rejects.toThrow('permission denied for function request_backfill');
    await expect(
      asking('GRANT EXECUTE ON FUNCTION infill.request_backfill(text, text) TO infill_asker'),
    ).rejects.toThrow('asked: 1');
  });
});
