import type { FastifyInstance } from 'fastify';
import { afterEach, describe, expect, test } from 'vitest';
import { buildHealthServer } from '../../src/http/health.ts';
import { createRegistry } from '../../src/http/metrics.ts';
import { CHECK_REUSE_MS, Readiness, type ReadinessCheck, requireServices } from '../../src/http/readiness.ts';
import { createLog } from '../../src/log.ts';
import { buildTestServer, PREFIX } from '../support/admin-server.ts';
import { until } from '../support/system.ts';

const servers: FastifyInstance[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((app) => app.close()));
});

const up: ReadinessCheck = { name: 'postgres', check: async () => 1 };
const refused: ReadinessCheck = {
  name: 'redis',
  check: async () => {
    throw Object.assign(new Error('connect to redis://:planted@10.0.0.1'), { code: 'ECONNREFUSED' });
  },
};
const hanging: ReadinessCheck = { name: 'redis', check: () => new Promise(() => {}) };

async function setup(checks: ReadinessCheck[], isStopping = () => false) {
  const log = createLog({ level: 'silent', name: 'test' });
  const app = await buildHealthServer({ log, checks, registry: createRegistry(), isStopping });
  servers.push(app);
  const get = async (url: string) => {
    const response = await app.inject({ url });
    return { status: response.statusCode, body: response.json() };
  };
  return { app, get };
}

describe('/readyz', () => {
  test('is 200 while every service answers', async () => {
    const { get } = await setup([up]);
    expect(await get('/readyz')).toEqual({ status: 200, body: { status: 'ok', checks: { postgres: 'ok' } } });
  });

  test('is 503 and names what is missing, without its address', async () => {
    const { get } = await setup([up, refused]);
    expect(await get('/readyz')).toEqual({
      status: 503,
      body: { status: 'unavailable', checks: { postgres: 'ok', redis: 'unreachable: ECONNREFUSED' } },
    });
  });

  test('answers within a second and a half when services hang, however many', async () => {
    const { get } = await setup([hanging, { ...hanging, name: 'postgres' }]);
    const beganMs = performance.now();

    const { status, body } = await get('/readyz');

    expect(performance.now() - beganMs).toBeLessThan(1_500);
    expect({ status, redis: body.checks.redis }).toEqual({
      status: 503,
      redis: 'unreachable: no answer within 1000 ms',
    });
  });

  test('is 503 from the moment that the process is told to end, while /livez stays 200', async () => {
    let stopping = false;
    const { get } = await setup([up], () => stopping);
    expect((await get('/readyz')).status).toBe(200);

    stopping = true;

    expect(await get('/readyz')).toEqual({ status: 503, body: { status: 'stopping', checks: {} } });
    expect(await get('/livez')).toEqual({ status: 200, body: { status: 'ok' } });
  });
});

describe('the health server', () => {
  test('says that it lives while every service is missing', async () => {
    const { get } = await setup([refused]);
    expect(await get('/livez')).toEqual({ status: 200, body: { status: 'ok' } });
  });

  test('gives metrics in the format of Prometheus', async () => {
    const { app } = await setup([]);
    const response = await app.inject({ url: '/metrics' });
    expect(response.headers['content-type']).toContain('text/plain');
    expect(response.body).toContain('process_cpu_seconds_total');
  });

  test('has no other route, and its errors are problems', async () => {
    const { app } = await setup([]);
    const response = await app.inject({ url: '/api/v1/admin/backfill-embeddings' });
    expect(response.statusCode).toBe(404);
    expect(response.headers['content-type']).toContain('application/problem+json');
  });
});

describe('the API server', () => {
  test('has the same three routes, open to everybody, and times its requests by route', async () => {
    const { app } = await buildTestServer({ checks: [up] });
    servers.push(app);

    expect((await app.inject({ url: '/livez' })).statusCode).toBe(200);
    expect((await app.inject({ url: '/readyz' })).json()).toEqual({
      status: 'ok',
      checks: { postgres: 'ok' },
    });
    const metrics = await app.inject({ url: '/metrics' });
    expect(metrics.body).toContain(
      'infill_http_request_duration_seconds_count{method="GET",route="/livez",status="200"} 1',
    );
  });
});

describe('requireServices', () => {
  async function setupRoute(checks: ReadinessCheck[]) {
    let reached = 0;
    const built = await buildTestServer({
      checks,
      routes: [
        (app) => {
          app.post('/work', { preHandler: requireServices(['postgres', 'redis']) }, async () => {
            reached += 1;
            return { done: true };
          });
        },
      ],
    });
    servers.push(built.app);
    const work = () => built.app.inject({ method: 'POST', url: `${PREFIX}/work`, headers: built.secret });
    return { work, reached: () => reached };
  }

  test('lets a request through while the services answer', async () => {
    const { work, reached } = await setupRoute([up, { ...up, name: 'redis' }]);
    expect((await work()).json()).toEqual({ done: true });
    expect(reached()).toBe(1);
  });

  test.each([refused, hanging])(
    'answers 503 within 2 s and does nothing when one is missing',
    async (missing) => {
      const { work, reached } = await setupRoute([up, missing]);
      const beganMs = performance.now();

      const response = await work();

      expect(performance.now() - beganMs).toBeLessThan(2_000);
      expect(response.json()).toMatchObject({ status: 503, type: '/docs/problems#unavailable' });
      expect(response.json().detail).toContain('redis is unreachable');
      expect(response.json().checks.postgres).toBe('ok');
      expect(response.headers['retry-after']).toBe('5');
      expect(reached()).toBe(0);
    },
  );
});

describe('requireServices, while a route is at work,', () => {
  /** A service that answers as told, one call after the other; the last answer stands. */
  const scripted = (answers: (() => Promise<unknown>)[]): ReadinessCheck => ({
    name: 'postgres',
    check: () => (answers.length > 1 ? answers.shift() : answers[0])?.() ?? Promise.resolve(),
  });
  const well = async () => 1;
  const gone = () => Promise.reject(Object.assign(new Error('away'), { code: 'ECONNREFUSED' }));

  async function askFor(check: ReadinessCheck, work: () => Promise<unknown>) {
    const { app, secret } = await buildTestServer({
      checks: [check],
      routes: [
        (scope) => {
          scope.post('/work', { preHandler: requireServices(['postgres']) }, async () => {
            await work();
            return { done: true };
          });
        },
      ],
    });
    servers.push(app);
    return app.inject({ method: 'POST', url: `${PREFIX}/work`, headers: secret });
  }

  test('takes one bad answer for no outage', async () => {
    const answers = [well, gone, well];
    const seenAll = () => until(async () => answers.length === 1, 'the service was asked three times');

    expect((await askFor(scripted(answers), seenAll)).json()).toEqual({ done: true });
  });

  test('answers 503 within 2 s when it hears nothing twice', async () => {
    const beganMs = performance.now();
    const answers = [well, () => new Promise(() => {})];

    const response = await askFor(scripted(answers), () => new Promise(() => {}));

    expect(performance.now() - beganMs).toBeLessThan(2_000);
    expect(response.json()).toMatchObject({ status: 503, type: '/docs/problems#unavailable' });
    expect(response.json().detail).toContain('It went away while the request was at work');
  });
});

describe('a readiness check', () => {
  function countingReadiness() {
    let nowMs = 0;
    const asked: AbortSignal[] = [];
    const check = { name: 'redis', check: async (signal: AbortSignal) => void asked.push(signal) };
    const readiness = new Readiness([check], () => nowMs);
    return { readiness, asked, pass: (ms: number) => (nowMs += ms) };
  }

  test('is asked once by a burst of requests, and again when its answer is old', async () => {
    const { readiness, asked, pass } = countingReadiness();

    await Promise.all([readiness.report(), readiness.report()]);
    pass(CHECK_REUSE_MS - 1);
    await readiness.report();
    expect(asked).toHaveLength(1);

    pass(1);
    expect(await readiness.report(['redis'])).toEqual({ redis: 'ok' });
    expect(asked).toHaveLength(2);
  });

  test('that hung is asked anew later, so that a lost connection does not count for ever', async () => {
    const answers = [() => new Promise<void>(() => {}), async () => {}];
    let nowMs = 0;
    const signals: AbortSignal[] = [];
    const check = async (signal: AbortSignal) => {
      signals.push(signal);
      return answers.shift()?.();
    };
    const readiness = new Readiness([{ name: 'redis', check }], () => nowMs);

    expect((await readiness.report()).redis).toContain('no answer');
    expect(signals[0]?.aborted).toBe(true);
    nowMs += CHECK_REUSE_MS;
    expect(await readiness.report()).toEqual({ redis: 'ok' });
  });

  test.each(['42P01', '3F000'])(
    'that finds the tables missing says what to do, however deep the code: %s',
    async (code) => {
      const cause = Object.assign(new Error('relation "infill.runs" does not exist'), { code });
      const check = () =>
        Promise.reject(Object.assign(new Error('Failed query', { cause }), { query: '', params: [] }));

      expect(await new Readiness([{ name: 'postgres', check }]).report()).toEqual({
        postgres: 'not migrated: run `npm run migrate`',
      });
    },
  );

  test('that throws at once counts as failed', async () => {
    const check = () => {
      throw new Error('no client');
    };
    expect(await new Readiness([{ name: 'redis', check }]).report()).toEqual({
      redis: 'unreachable: no client',
    });
  });
});
