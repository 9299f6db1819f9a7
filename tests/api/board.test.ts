import { Queue, Worker } from 'bullmq';
import type { FastifyInstance } from 'fastify';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { QUEUES, runBatchJob } from '../../src/queue/jobs.ts';
import { ADMIN_SECRET, buildTestServer } from '../support/admin-server.ts';
import { createTestRedis, type TestService } from '../support/services.ts';

const runId = '7d5a2f0e-3c1b-4c8e-9a51-0c1f5b7a9d10';

let redis: TestService;
let queues: Queue[];
let failedJobId: string;

beforeAll(async () => {
  redis = await createTestRedis();
  queues = Object.values(QUEUES).map(
    (name) => new Queue(name, { connection: { url: redis.url }, prefix: '{infill}' }),
  );
  const job = await queues[2]?.add(
    'batch of t1',
    {
      runId: 'r1',
      tenantId: 't1',
      sequence: 3,
      text: 'planted',
      apiKey: 'planted',
      range: { text: 'planted' },
    },
    { jobId: 'batch-r1-t1-3' },
  );
  await job?.updateProgress({ progress: 50, done: 1, total: 2, note: 'planted, with a comma' });
  failedJobId = (await failJob(queues[0] as Queue)) ?? '';
});
afterAll(async () => {
  await Promise.all(queues.map((queue) => queue.close()));
  await redis.close();
});

const servers: FastifyInstance[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((app) => app.close()));
});

describe('the board', () => {
  async function board() {
    const { app, lines } = await buildTestServer({ queues });
    servers.push(app);
    const headers = { 'x-admin-secret': ADMIN_SECRET };
    const ask = (url: string, method: 'GET' | 'PUT' | 'POST' | 'PATCH' = 'GET') =>
      app.inject({ method, url: `/admin/queues${url}`, headers });
    return { app, ask, lines };
  }

  test.each(['', '/', '/queue/backfill-runs', '/api/redis/stats', '/static/images/logo.svg'])(
    'shows %j to who may look',
    async (url) => {
      const { ask } = await board();
      expect((await ask(url)).statusCode).toBe(200);
    },
  );

  test('describes the three queues', async () => {
    const { ask } = await board();

    const { queues: shown } = (await ask('/api/queues')).json();

    expect(shown.map(({ name }: { name: string }) => name)).toEqual(Object.values(QUEUES));
    for (const { description, readOnlyMode } of shown) {
      expect(description).toMatch(/^One job a (run|tenant|batch)/);
      expect(readOnlyMode).toBe(true);
    }
  });

  test('leads from a job to the status of its run', async () => {
    const { ask } = await board();
    const { job } = (await ask('/api/queues/backfill-batches/batch-r1-t1-3')).json();
    expect(job.externalUrl).toEqual({ displayText: 'Status of the run', href: '/admin/runs/r1' });
  });

  test('shows the keys of a job and no field that nobody listed', async () => {
    const { ask } = await board();

    const answers = [
      await ask('/api/queues/backfill-batches/batch-r1-t1-3'),
      await ask('/api/queues?activeQueue=backfill-batches'),
      await ask('/api/queues/backfill-batches/batch-r1-t1-3/flow'),
    ];

    expect(answers[0]?.json().job.data).toEqual({
      runId: 'r1',
      tenantId: 't1',
      sequence: 3,
      text: '[hidden]',
      apiKey: '[hidden]',
      range: '[hidden]',
    });
    expect(answers[0]?.json().job.progress).toMatchObject({ progress: 50, done: 1, total: 2 });
    for (const { statusCode, body } of answers.slice(0, 2)) {
      expect(statusCode).toBe(200);
      expect(body).not.toContain('planted');
    }
  });

  test('shows every field that our jobs have', async () => {
    const { ask } = await board();
    const batch = {
      runId,
      generation: 1,
      tenantId: 't2',
      sequence: 1,
      afterId: null,
      throughId: 'row-9',
      rows: 50,
    };
    const { name, data, opts } = runBatchJob(batch);
    await queues[2]?.add(name, data, opts);

    const { job } = (await ask(`/api/queues/backfill-batches/${opts.jobId}`)).json();

    expect(job.data).toEqual(data);
  });

  test('scrubs keys and passwords from the reasons of failures', async () => {
    const { ask } = await board();
    const { body } = await ask(`/api/queues/backfill-runs/${failedJobId}`);
    expect(body).toContain('[redacted]');
    expect(body).not.toContain('planted');
  });

  test.each([
    ['PUT', '/api/queues/pause'],
    ['PUT', '/api/queues/backfill-runs/obliterate'],
    ['PUT', '/api/queues/backfill-runs/retry/failed'],
    ['PUT', '/api/queues/backfill-batches/batch-r1-t1-3/clean'],
    ['PATCH', '/api/queues/backfill-batches/batch-r1-t1-3/update-data'],
    ['POST', '/api/queues/backfill-runs/add'],
  ] as const)('refuses to act: %s %s', async (method, url) => {
    const { ask, lines } = await board();

    const response = await ask(url, method);

    expect(response.statusCode).toBe(405);
    expect(response.json()).toMatchObject({ type: '/docs/problems#method_not_allowed' });
    expect(lines.some(({ msg }) => msg === 'board_action_refused')).toBe(true);
    expect(await queues[2]?.getJob('batch-r1-t1-3')).toBeDefined();
  });

  test('answers what does not exist by a problem that its page understands', async () => {
    const { ask } = await board();

    const job = await ask('/api/queues/backfill-runs/nothing');
    const file = await ask('/static/nothing.js');
    const path = await ask('/nothing/at/all');

    expect(job.json()).toMatchObject({ status: 404, error: { key: 'ERRORS.JOB_NOT_FOUND' } });
    for (const { statusCode, headers } of [job, file, path]) {
      expect(statusCode).toBe(404);
      expect(headers['content-type']).toContain('application/problem+json');
    }
  });

  test('keeps its page from asking other servers and others from framing it', async () => {
    const { ask } = await board();

    const { headers, body } = await ask('');

    expect(headers['content-security-policy']).toMatch(/^default-src 'self'; script-src 'self'; /);
    expect(headers['x-frame-options']).toBe('DENY');
    expect(headers['x-content-type-options']).toBe('nosniff');
    expect(headers['referrer-policy']).toBe('same-origin');
    expect(headers['cache-control']).toBe('no-store');
    expect(body).toContain('"label":"test"');
  });
});

/** Adds a job and lets it fail for a reason that quotes a key and a password. */
async function failJob(queue: Queue): Promise<string | undefined> {
  const job = await queue.add('run r2', { runId: 'r2' });
  const worker = new Worker(
    queue.name,
    async () => {
      throw new Error('refused sk-planted123 at postgres://user:planted@host/db');
    },
    { connection: { url: redis.url, maxRetriesPerRequest: null }, prefix: '{infill}' },
  );
  await new Promise<void>((resolve) => worker.on('failed', () => resolve()));
  await worker.close();
  return job.id;
}
