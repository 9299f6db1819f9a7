import type { AddressInfo } from 'node:net';
import { connect } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { Registry } from 'prom-client';
import { afterEach, describe, expect, test } from 'vitest';
import type { Db } from '../../src/db/client.ts';
import { observeBacklog } from '../../src/http/backlog-metrics.ts';
import { ADMIN_SECRET, buildTestServer, PREFIX, sampleRoutes } from '../support/admin-server.ts';

const servers: FastifyInstance[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((app) => app.close()));
});

async function setup(deps: Parameters<typeof buildTestServer>[0] = {}) {
  const built = await buildTestServer({ routes: [sampleRoutes], ...deps });
  servers.push(built.app);
  return built;
}

describe('a path that no file can have is a 404 and no error:', () => {
  test.each([
    '/docs/static/%00',
    '/docs/static/a%00b.css',
    '/docs/static/..%5c..%5cpackage.json',
    '/docs/static//etc/passwd',
    '/docs/static/%5c%5chost%5cshare',
    '/docs/static/..%2f..%2fpackage.json',
    '//etc/passwd',
    '/..%5c..%5cetc',
    '/%00',
    '/admin/queues/static/%00',
    '/admin/queues/static/..%5cx',
    '/admin/queues//etc/passwd',
  ])('%s', async (url) => {
    const { app, secret, lines } = await setup();

    const response = await app.inject({ url, headers: secret });

    expect(response.statusCode).toBe(404);
    expect(response.headers['content-type']).toContain('application/problem+json');
    expect(lines.filter(({ level }) => level === 'error')).toEqual([]);
  });
});

test('every answer tells browsers to believe its content type', async () => {
  const { app, secret } = await setup();
  for (const url of [
    '/livez',
    '/readyz',
    '/metrics',
    '/nothing',
    '/docs',
    '/docs/json',
    `${PREFIX}/plain`,
    `${PREFIX}/bug`,
  ])
    expect((await app.inject({ url, headers: secret })).headers['x-content-type-options'], url).toBe(
      'nosniff',
    );
});

describe('a request that does not arrive in time', () => {
  test.each([
    ['head', 'GET /livez HTTP/1.1\r\nHost: x\r\n'],
    [
      'body',
      `PUT ${PREFIX}/credential/a HTTP/1.1\r\nHost: x\r\nX-Admin-Secret: ${ADMIN_SECRET}\r\nContent-Length: 100\r\n\r\n{`,
    ],
  ])('is ended, whether its %s is slow', async (_what, begin) => {
    const { app } = await setup({ receiveTimeoutMs: 300 });
    await app.listen({ host: '127.0.0.1', port: 0 });
    const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1', () =>
      socket.write(begin),
    );
    const began = performance.now();

    const answer = await new Promise<string>((resolve) => {
      let received = '';
      socket.on('data', (chunk) => {
        received += chunk;
      });
      socket.on('close', () => resolve(received));
    });

    expect(performance.now() - began).toBeLessThan(5_000);
    expect(answer).toMatch(/^HTTP\/1\.1 408/);
  });

  test('has 15 s unless a test says otherwise', async () => {
    const { app } = await setup();
    expect([app.server.headersTimeout, app.server.requestTimeout]).toEqual([15_000, 15_000]);
  });
});

describe('the figures of /metrics', () => {
  const answering = (answers: () => Promise<unknown[]>) => {
    let asked = 0;
    const execute = () => {
      asked += 1;
      return answers();
    };
    return { db: { execute } as unknown as Db, asked: () => asked };
  };

  test('are read once for all who ask at a time, and not again for 2 s', async () => {
    let nowMs = 0;
    const { db, asked } = answering(async () => []);
    const registry = new Registry();
    observeBacklog(registry, db, () => nowMs);

    await Promise.all(Array.from({ length: 200 }, () => registry.metrics()));
    await registry.metrics();
    const first = asked();
    nowMs = 2_001;
    await registry.metrics();

    expect(first).toBeLessThanOrEqual(10);
    expect(asked()).toBe(2 * first);
  });

  test('are read again at once when they could not be', async () => {
    const { db, asked } = answering(() => Promise.reject(new Error('away')));
    const registry = new Registry();
    observeBacklog(registry, db, () => 0);

    await registry.metrics();
    const first = asked();
    await registry.metrics();

    expect(asked()).toBe(2 * first);
  });
});
