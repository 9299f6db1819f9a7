import { randomUUID } from 'node:crypto';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { closeQueues, openQueues, type Queues } from '../../src/queue/enqueue.ts';
import type { Answer } from '../support/call-api.ts';
import { type Json, type System, startSystem } from '../support/system.ts';

const PATH = '/api/v1/admin/backfill-embeddings';

let system: System;
let redis: Redis;
let queues: Queues;

// Without a worker: a run that was started stays where it is.
beforeAll(async () => {
  system = await startSystem({ workers: 0 });
  redis = new Redis(system.redisUrl, { maxRetriesPerRequest: null });
  queues = openQueues(redis);
});
afterAll(async () => {
  await closeQueues(queues);
  redis.disconnect();
  await system.close();
});
beforeEach(async () => {
  await system.sql`TRUNCATE notes, infill.runs, infill.run_tenants, infill.run_batches, infill.audit_events CASCADE`;
  await redis.flushdb();
});

const start = (query = '', headers: Record<string, string> = {}) =>
  system.call('POST', `${PATH}${query}`, { headers });

async function isNothingQueued(): Promise<boolean> {
  const runs = await system.sql`SELECT 1 FROM infill.runs`;
  return runs.length === 0 && (await queues.runs.getJobCountByTypes()) === 0;
}

function expectMistake(answer: Answer, field: string, message: string): void {
  expect(answer.status).toBe(400);
  expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/);
  expect(answer.body).toMatchObject({ type: '/docs/problems#invalid_request', status: 400 });
  expect(answer.body.errors).toEqual([{ field, message: expect.stringContaining(message) }]);
  expect(answer.body.detail).toContain(field);
}

describe('a wrong parameter is named, with what is allowed, and nothing is queued:', () => {
  const batchSize = 'must be a whole number from 1 to 2048';
  const flag = 'must be true or false';
  const wait = 'must be a whole number from 0 to 60';

  test.each([
    ['batchSize=0', 'batchSize', `${batchSize}, got "0"`],
    ['batchSize=2049', 'batchSize', batchSize],
    ['batchSize=-1', 'batchSize', batchSize],
    ['batchSize=abc', 'batchSize', `${batchSize}, got "abc"`],
    ['batchSize=', 'batchSize', batchSize],
    ['batchSize=1e2', 'batchSize', batchSize],
    ['batchSize=2.5', 'batchSize', batchSize],
    ['batchSize=10&batchSize=20', 'batchSize', batchSize],
    ['dryRun=maybe', 'dryRun', `${flag}, got "maybe"`],
    ['dryRun=', 'dryRun', flag],
    ['dryRun=TRUE', 'dryRun', flag],
    ['dryRun=1', 'dryRun', flag],
    ['dryrun=true', 'dryrun', 'is not a known parameter: known are target, tenantId, dryRun'],
    ['batch_size=10', 'batch_size', 'is not a known parameter'],
    ['target=nobody', 'target', 'must be one of notes, absent'],
    ['target=', 'target', 'must be text of 1 to 100 characters'],
    ['wait=61', 'wait', `${wait}, got "61"`],
    ['wait=-1', 'wait', wait],
    ['limit=0', 'limit', 'must be a whole number from 1 to'],
    ['maxTokens=0', 'maxTokens', 'must be a whole number from 1 to'],
    ['maxCostUsd=0', 'maxCostUsd', 'must be a number above 0 and at most 1000000'],
    ['wait=-0', 'wait', wait],
    ['batchSize=007', 'batchSize', batchSize],
    ['maxCostUsd=much', 'maxCostUsd', 'must be a number'],
    ['tenantId=', 'tenantId.0', 'must be text of 1 to 200 characters'],
  ])('%s', async (query, field, message) => {
    expectMistake(await start(`?${query}`), field, message);
    expect(await isNothingQueued()).toBe(true);
  });

  test('and so are several at once', async () => {
    const { status, body } = await start('?batchSize=0&dryRun=maybe&wait=99&colour=red');

    expect(status).toBe(400);
    expect(body.errors.map(({ field }: Json) => field).sort()).toEqual([
      'batchSize',
      'colour',
      'dryRun',
      'wait',
    ]);
  });

  test('also an Idempotency-Key that is too long, without repeating it', async () => {
    const answer = await start('', { 'idempotency-key': 'k'.repeat(201) });

    expectMistake(answer, 'idempotency-key', 'must be text of 1 to 200 characters');
    expect(JSON.stringify(answer.body)).not.toContain('kkkk');
    expect(await isNothingQueued()).toBe(true);
  });
});

describe('what a run is asked by', () => {
  test.each([
    ['GET', '/not-a-uuid', 'runId', 'must be a UUID, got "not-a-uuid"'],
    ['GET', '/not-a-uuid/tenants', 'runId', 'must be a UUID'],
    ['GET', '/not-a-uuid/rows', 'runId', 'must be a UUID'],
    ['POST', '/not-a-uuid/cancel', 'runId', 'must be a UUID'],
    ['POST', '/not-a-uuid/retry', 'runId', 'must be a UUID'],
    ['GET', '?limit=0', 'limit', 'must be a whole number from 1 to 1000'],
    ['GET', '?limit=1001', 'limit', 'must be a whole number from 1 to 1000'],
    ['GET', '?cursor=made-up', 'cursor', 'must be the nextCursor of an answer of this very list'],
    ['GET', '?offset=10', 'offset', 'is not a known parameter: known are limit, cursor'],
    [
      'GET',
      '/00000000-0000-4000-8000-000000000000/rows?outcome=lost',
      'outcome',
      'must be one of embedded, would_embed',
    ],
  ])('is checked: %s %s', async (method, path, field, message) => {
    expectMistake(await system.call(method, `${PATH}${path}`), field, message);
  });

  test.each([
    ['GET', ''],
    ['GET', '/tenants'],
    ['GET', '/rows'],
    ['POST', '/cancel'],
    ['POST', '/pause'],
    ['POST', '/resume'],
    ['POST', '/retry'],
  ])('has to exist: %s {runId}%s', async (method, path) => {
    const runId = randomUUID();

    const answer = await system.call(method, `${PATH}/${runId}${path}`);

    expect(answer).toMatchObject({ status: 404, body: { type: '/docs/problems#not_found' } });
    expect(answer.body.detail).toBe(`There is no run ${runId}.`);
  });
});

test('a target whose table is absent is reported as absent, and nothing is queued', async () => {
  const answer = await start('?target=absent');

  expect(answer).toMatchObject({
    status: 422,
    body: {
      type: '/docs/problems#target_not_ready',
      targetState: 'absent',
      detail: 'Target "absent": table "public"."not_there_yet" is absent.',
    },
  });
  expect(await isNothingQueued()).toBe(true);
});

describe('a start', () => {
  test('answers the run, queued, with its links; and puts one job on the first queue', async () => {
    const { status, body } = await start(
      '?batchSize=7&limit=100&tenantId=b&tenantId=a&tenantId=b&maxTokens=5',
    );

    expect(status).toBe(202);
    expect(body).toMatchObject({
      target: 'notes',
      status: 'queued',
      message: 'Queued: a worker plans the run next.',
      dryRun: false,
      batchSize: 7,
      limit: 100,
      tenantIds: ['a', 'b'],
      maxTokens: 5,
      progress: 0,
      rows: { planned: 0, embedded: 0, superseded: 0, gone: 0, quarantined: 0, failed: 0, remaining: null },
      tenants: { total: 0, settled: 0 },
      startedAt: null,
      settledAt: null,
      links: {
        self: `${PATH}/${body.runId}`,
        tenants: `${PATH}/${body.runId}/tenants`,
        rows: `${PATH}/${body.runId}/rows`,
      },
    });
    const jobs = await queues.runs.getJobs();
    expect(jobs.map(({ data }) => data)).toEqual([{ v: 1, runId: body.runId, generation: 1, step: 'plan' }]);
    expect((await system.call('GET', body.links.self)).body).toEqual(body);
  });

  test('without parameters is a real run of the first target, 50 rows a batch', async () => {
    expect((await start()).body).toMatchObject({
      target: 'notes',
      dryRun: false,
      batchSize: 50,
      tenantIds: null,
    });
  });

  test('is recorded with who did it', async () => {
    const { body } = await start('', { 'x-actor': Buffer.from('Zoë of operations').toString('latin1') });

    const events = await system.sql`SELECT actor, action, run_id, subject FROM infill.audit_events`;
    expect([...events]).toEqual([
      { actor: 'Zoë of operations', action: 'run.started', run_id: body.runId, subject: 'notes' },
    ]);
  });
});

describe('a second start', () => {
  test('on a target that has an unsettled run is a 409 with the id of that run', async () => {
    const first = await start();

    const second = await start('?dryRun=true');

    expect(second).toMatchObject({
      status: 409,
      body: { type: '/docs/problems#unsettled_run', runId: first.body.runId },
    });
    expect(await queues.runs.getJobCountByTypes()).toBe(1);
  });

  test('at the same moment never makes two runs', async () => {
    const answers = await Promise.all(Array.from({ length: 12 }, () => start()));

    const started = answers.filter(({ status }) => status === 202);
    expect(started).toHaveLength(1);
    expect(new Set(answers.map(({ body }) => body.runId))).toEqual(new Set([started[0]?.body.runId]));
    expect(await queues.runs.getJobCountByTypes()).toBe(1);
  });

  test('is welcome once the first run is settled', async () => {
    const first = await start();
    await settle(first.body.runId);

    expect(await start()).toMatchObject({ status: 202, body: { status: 'queued' } });
  });
});

describe('an Idempotency-Key', () => {
  const key = { 'idempotency-key': 'import of monday' };

  test('makes a repeated start the same run, also when that is settled by now', async () => {
    const first = await start('?batchSize=9', key);
    const again = await start('?batchSize=9', key);
    await settle(first.body.runId);
    const later = await start('?batchSize=9', key);

    expect([first, again, later].map(({ status, body }) => [status, body.runId])).toEqual([
      [202, first.body.runId],
      [202, first.body.runId],
      [202, first.body.runId],
    ]);
    expect(later.body.status).toBe('succeeded');
    expect(await queues.runs.getJobCountByTypes()).toBe(1);
  });

  test('makes one run of many starts at the same moment', async () => {
    const answers = await Promise.all(Array.from({ length: 10 }, () => start('', key)));

    expect(new Set(answers.map(({ status, body }) => `${status} ${body.runId}`)).size).toBe(1);
    expect(await system.sql`SELECT 1 FROM infill.runs`).toHaveLength(1);
  });

  test('that came with other parameters is a 422 that names the run', async () => {
    const first = await start('?batchSize=9', key);

    const other = await start('?batchSize=10', key);

    expect(other).toMatchObject({
      status: 422,
      body: { type: '/docs/problems#key_reused', runId: first.body.runId },
    });
  });

  test('does not care how long a caller waits, nor in which order tenants are named', async () => {
    const first = await start('?tenantId=a&tenantId=b', key);

    const again = await start('?tenantId=b&tenantId=a&wait=0', key);

    expect(again).toMatchObject({ status: 202, body: { runId: first.body.runId } });
  });
});

async function settle(runId: string): Promise<void> {
  await system.sql`UPDATE infill.runs SET status = 'succeeded', settled_at = now() WHERE run_id = ${runId}`;
}
