import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Answer } from '../support/call-api.ts';
import { type System, startSystem, until, wrongRows } from '../support/system.ts';

const PATH = '/api/v1/admin/backfill-embeddings';
const ANSWER_MS_MAX = 2_000;

let system: System;

beforeAll(async () => {
  system = await startSystem({ proxied: true, env: { WORKER_CONCURRENCY: '2' } });
});
afterAll(() => system.close());
beforeEach(async () => {
  await system.sql`TRUNCATE notes, infill.runs, infill.run_tenants, infill.run_batches CASCADE`;
  await system.addRows([{ tenant: 'acme', text: 'a note' }]);
});
afterEach(() => recover());

/** Brings both services back, and waits until both processes have noticed. */
async function recover(): Promise<void> {
  await Promise.all([system.proxies.postgres.restore(), system.proxies.redis.restore()]);
  await until(async () => (await system.call('GET', '/readyz')).status === 200, 'the API is ready again');
}

async function timed(method: string, path: string): Promise<Answer & { tookMs: number }> {
  const startedMs = performance.now();
  const answer = await system.call(method, path);
  return { ...answer, tookMs: performance.now() - startedMs };
}

function expectUnavailable(answer: Answer & { tookMs: number }, service: string): void {
  expect(answer.status, JSON.stringify(answer.body)).toBe(503);
  expect(answer.tookMs).toBeLessThan(ANSWER_MS_MAX);
  expect(answer.body).toMatchObject({ type: '/docs/problems#unavailable', status: 503 });
  expect(answer.body.detail).toContain(service);
  expect(answer.headers.get('retry-after')).toBe('5');
}

/** Takes a service away, and waits until the API has noticed. */
async function loseService(name: 'postgres' | 'redis', how: 'cut' | 'freeze'): Promise<void> {
  await system.proxies[name][how]();
  await until(async () => (await system.call('GET', '/readyz')).status === 503, `the API misses ${name}`);
}

describe.each([
  ['refuses connections', 'cut'],
  ['answers nothing', 'freeze'],
] as const)('while Redis or Postgres %s,', (_name, how) => {
  test.each(['postgres', 'redis'] as const)(
    'a start is a 503 within 2 s, and no run is half made: %s',
    async (name) => {
      await loseService(name, how);

      expectUnavailable(await timed('POST', PATH), name);
      expectUnavailable(await timed('POST', `${PATH}?wait=60`), name);

      expect(await system.sql`SELECT * FROM infill.runs`).toEqual([]);
      await recover();
      expect(await system.backfill()).toMatchObject({ status: 'succeeded', rows: { embedded: 1 } });
    },
  );

  test('what needs Postgres is a 503 within 2 s', async () => {
    await loseService('postgres', how);

    for (const path of [
      PATH,
      '/api/v1/admin/targets',
      '/api/v1/admin/quarantine',
      '/api/v1/admin/credentials',
    ])
      expectUnavailable(await timed('GET', path), 'postgres');
  });

  test('the process lives, says what is missing, and does what it can without', async () => {
    await loseService('redis', how);

    expect(await timed('GET', '/livez')).toMatchObject({ status: 200 });
    const ready = await timed('GET', '/readyz');
    expect(ready).toMatchObject({ status: 503, body: { status: 'unavailable', checks: { postgres: 'ok' } } });
    expect(ready.body.checks.redis).toMatch(/^unreachable/);
    expect(ready.tookMs).toBeLessThan(ANSWER_MS_MAX);
    expect((await timed('GET', PATH)).status).toBe(200);
  });

  // The answer of the check a moment earlier still stands, so that the start itself runs into the silence.
  test.each(['postgres', 'redis'] as const)('so is a start that meets it at work: %s', async (name) => {
    await system.call('GET', '/readyz');
    await system.proxies[name][how]();

    const answer = await timed('POST', PATH);

    expect(answer.status).toBe(503);
    expect(answer.tookMs).toBeLessThan(ANSWER_MS_MAX);
    await until(async () => (await system.call('GET', '/readyz')).status === 503, 'the API has noticed');
    await recover();
    // Whatever became of it, it is not in the way.
    await until(
      async () => {
        const unsettled = await system.sql`SELECT 1 FROM infill.runs WHERE settled_at IS NULL`;
        return unsettled.length === 0;
      },
      'no run is left half made',
      undefined,
      40_000,
    );
    expect((await system.backfill()).status).toBe('succeeded');
    expect(wrongRows(await system.rows())).toEqual([]);
  });
});

test('a run under way waits for Redis or Postgres and goes on by itself, without anybody being told to', async () => {
  await system.addRows(Array.from({ length: 60 }, (_, index) => ({ tenant: 'acme', text: `note ${index}` })));
  system.openai.setLatency({ fixedMs: 150 });
  const { body } = await system.call('POST', `${PATH}?batchSize=5`);
  for (const name of ['redis', 'postgres'] as const) {
    const calls = system.openai.ledger.entries.length;
    await until(async () => system.openai.ledger.entries.length > calls, 'the run goes on');
    await system.proxies[name].cut();
    await until(async () => system.openai.ledger.inFlight === 0, 'the calls in hand are answered');
    await recover();
  }

  const run = await system.settled(body.runId);

  expect(run).toMatchObject({ status: 'succeeded', rows: { embedded: 61, failed: 0, remaining: 0 } });
  expect(wrongRows(await system.rows())).toEqual([]);
  system.openai.setLatency({ fixedMs: 0 });
}, 120_000);
