import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ADMIN_SECRET, type Json, type System, startSystem } from '../support/system.ts';

const ADMIN_PREFIX = '/api/v1/admin';
const ID = '00000000-0000-4000-8000-000000000000';

let system: System;
/** Every route of the OpenAPI document under the admin prefix. */
let routes: { method: string; path: string }[];

beforeAll(async () => {
  system = await startSystem({ workers: 0 });
  const { body } = await system.call('GET', '/docs/json', { headers: { 'x-admin-secret': 'none' } });
  routes = Object.entries<Json>(body.paths)
    .filter(([path]) => path.startsWith(ADMIN_PREFIX))
    .flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => ({
        method: method.toUpperCase(),
        path: path.replaceAll(/\{\w+\}/g, ID),
      })),
    );
});
afterAll(() => system.close());

test('the document names the routes that an operator is told of', () => {
  const known = routes.map(
    ({ method, path }) => `${method} ${path.slice(ADMIN_PREFIX.length).replaceAll(ID, '*')}`,
  );

  expect(known).toEqual(
    expect.arrayContaining([
      'POST /backfill-embeddings',
      'GET /backfill-embeddings',
      'GET /backfill-embeddings/*',
      'GET /backfill-embeddings/*/tenants',
      'GET /backfill-embeddings/*/rows',
      'POST /backfill-embeddings/*/pause',
      'POST /backfill-embeddings/*/resume',
      'POST /backfill-embeddings/*/cancel',
      'POST /backfill-embeddings/*/retry',
      'PUT /tenants/*/credential',
      'GET /tenants/*/credential',
      'DELETE /tenants/*/credential',
      'GET /targets',
      'GET /estimate',
      'GET /quarantine',
    ]),
  );
});

describe.each([
  ['no secret', 'none'],
  ['an empty secret', ''],
  ['a wrong secret', 'not-the-admin-secret-4711'],
])('with %s', (_name, secret) => {
  const headers = { 'x-admin-secret': secret };

  test('every admin route is a 401, whatever else is wrong with the request, and does nothing', async () => {
    for (const { method, path } of [...routes, { method: 'GET', path: `${ADMIN_PREFIX}/there/is/none` }]) {
      const answer = await system.call(method, `${path}?batchSize=wrong`, { headers });
      expect(answer.status, `${method} ${path}`).toBe(401);
      expect(answer.body, `${method} ${path}`).toMatchObject({
        type: '/docs/problems#unauthorized',
        status: 401,
      });
      expect(JSON.stringify(answer.body)).not.toContain(ID);
    }
    expect(await system.sql`SELECT 1 FROM infill.runs`).toEqual([]);
    expect(await system.sql`SELECT 1 FROM infill.audit_events`).toEqual([]);
  });

  test.each([
    ['GET', '/admin'],
    ['GET', '/admin/queues'],
    ['GET', '/admin/queues/'],
    ['GET', '/admin/queues/queue/backfill-runs'],
    ['GET', '/admin/queues/static/css/main.css'],
    ['GET', '/admin/queues/static/there/is/none.js'],
    ['GET', '/admin/queues/api/queues'],
    ['GET', '/admin/queues/api/redis/stats'],
    ['GET', '/admin/queues/api/queues/backfill-batches/any/logs'],
    ['PUT', '/admin/queues/api/queues/backfill-runs/pause'],
    ['PUT', '/admin/queues/api/queues/backfill-runs/any/retry/failed'],
    ['PUT', '/admin/queues/api/queues/backfill-runs/any/clean'],
    ['POST', '/admin/queues/api/queues/backfill-runs/add'],
    ['GET', `/admin/runs/${ID}`],
    ['GET', '/admin/there/is/none'],
  ])('the board is a 401, and a login page for a browser: %s %s', async (method, path) => {
    const asScript = await system.call(method, path, { headers });
    expect(asScript.status).toBe(401);
    expect(asScript.body).toMatchObject({ type: '/docs/problems#unauthorized' });

    if (method !== 'GET') return;
    const asBrowser = await system.call(method, path, { headers: { ...headers, accept: 'text/html' } });
    expect(asBrowser.status).toBe(401);
    expect(asBrowser.body).toContain('name="secret"');
    expect(asBrowser.body).not.toContain('id="root"');
    expect(asBrowser.headers.get('set-cookie')).toBeNull();
  });
});

test('the right secret opens them all', async () => {
  for (const { path } of routes.filter(({ method }) => method === 'GET'))
    expect([200, 404], path).toContain((await system.call('GET', path)).status);
  for (const path of ['/admin/queues', '/admin/queues/api/queues'])
    expect((await system.call('GET', path)).status, path).toBe(200);
});

test('the secret of a query or a cookie opens nothing', async () => {
  const none = { 'x-admin-secret': 'none' };
  const tried = await Promise.all([
    system.call('GET', `${ADMIN_PREFIX}/targets?x-admin-secret=${ADMIN_SECRET}`, { headers: none }),
    system.call('GET', `${ADMIN_PREFIX}/targets`, {
      headers: { ...none, cookie: `x-admin-secret=${ADMIN_SECRET}` },
    }),
    system.call('GET', `${ADMIN_PREFIX}/targets`, {
      headers: { ...none, authorization: `Bearer ${ADMIN_SECRET}` },
    }),
  ]);

  expect(tried.map(({ status }) => status)).toEqual([401, 401, 401]);
});
