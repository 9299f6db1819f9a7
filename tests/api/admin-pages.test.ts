import type { FastifyInstance } from 'fastify';
import { afterEach, describe, expect, test } from 'vitest';
import type { ServerDeps } from '../../src/http/server.ts';
import { ADMIN_SECRET, buildTestServer } from '../support/admin-server.ts';
import { sampleRun } from '../support/sample-run.ts';

const servers: FastifyInstance[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((app) => app.close()));
});

const HTML = { accept: 'text/html,application/xhtml+xml' };
const PATHS = [
  '/admin',
  '/admin/queues',
  '/admin/queues/',
  '/admin/queues/queue/backfill-runs',
  '/admin/queues/api/queues',
  '/admin/queues/api/redis/stats',
  '/admin/queues/api/queues/backfill-batches/batch-r1-t1-3',
  '/admin/queues/static/images/logo.svg',
  '/admin/queues/static/nothing.js',
  '/admin/queues/nothing/here',
  '/admin/runs/r1',
  '/admin/nothing',
];

async function setup(deps: Partial<ServerDeps> = {}) {
  const built = await buildTestServer({
    readRun: async (runId) => (runId === 'r1' ? sampleRun() : null),
    ...deps,
  });
  servers.push(built.app);
  const { app } = built;
  const logIn = async (secret = ADMIN_SECRET, headers: Record<string, string> = {}, next?: string) =>
    app.inject({
      method: 'POST',
      url: '/admin/login',
      headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
      payload: new URLSearchParams({ secret, ...(next !== undefined && { next }) }).toString(),
    });
  const cookie = async () => String((await logIn()).headers['set-cookie']).split(';', 1)[0] as string;
  return { ...built, logIn, cookie };
}

describe('without a session', () => {
  test.each(PATHS)('%s shows a browser the login page and others a 401', async (url) => {
    const { app } = await setup();

    const page = await app.inject({ url, headers: HTML });
    const other = await app.inject({ url, headers: { accept: '*/*' } });

    expect(page.statusCode).toBe(401);
    expect(page.headers['content-type']).toContain('text/html');
    expect(page.body).toContain('name="secret"');
    expect(other.json()).toMatchObject({ status: 401, type: '/docs/problems#unauthorized' });
  });

  test.each(['wrong', '', `${ADMIN_SECRET}.`])(
    'the secret %j in the header opens nothing',
    async (secret) => {
      const { app } = await setup();
      for (const url of PATHS) {
        const response = await app.inject({ url, headers: { 'x-admin-secret': secret } });
        expect(response.statusCode, url).toBe(401);
      }
    },
  );

  test('an open board that asks for news does not use up the attempts to log in', async () => {
    const { app, logIn } = await setup({ failuresPerMinuteMax: 2 });
    for (let i = 0; i < 5; i += 1) await app.inject({ url: '/admin/queues/api/queues' });
    expect((await logIn('wrong')).statusCode).toBe(401);
  });
});

describe('logging in', () => {
  test('with the secret sets a cookie that only this site and no script can use', async () => {
    const { logIn } = await setup();

    const response = await logIn();

    expect(response.statusCode).toBe(303);
    expect(response.headers.location).toBe('/admin/queues');
    const [value, ...attributes] = String(response.headers['set-cookie']).split('; ');
    expect(attributes.toSorted()).toEqual(['HttpOnly', 'Max-Age=28800', 'Path=/admin', 'SameSite=Strict']);
    expect(value).not.toContain(ADMIN_SECRET);
  });

  test('by https makes the cookie stay on https', async () => {
    const { logIn } = await setup();
    const response = await logIn(ADMIN_SECRET, { 'x-forwarded-proto': 'https' });
    expect(response.headers['set-cookie']).toContain('; Secure');
  });

  test.each(['proto=https;host=infill.example', 'for=10.0.0.1; Proto="https", for=10.0.0.2;proto=http'])(
    'by https as Forwarded: %s tells makes the cookie stay on https',
    async (forwarded) => {
      const { logIn } = await setup();
      expect((await logIn(ADMIN_SECRET, { forwarded })).headers['set-cookie']).toContain('; Secure');
    },
  );

  test('by a proxy that was not called by https leaves the cookie plain', async () => {
    const { logIn } = await setup();
    const forwarded = 'for=10.0.0.1;proto=http, for=10.0.0.2;proto=https';
    expect((await logIn(ADMIN_SECRET, { forwarded })).headers['set-cookie']).not.toContain('Secure');
  });

  test('with the viewer secret shows the pages and lets nothing be changed', async () => {
    const { app, logIn } = await setup({ viewerSecret: 'the secret of those who only look' });

    const response = await logIn('the secret of those who only look');
    const headers = { cookie: String(response.headers['set-cookie']).split(';', 1)[0] as string };
    const changes = await app.inject({ method: 'PUT', url: '/admin/queues/api/queues/x/pause', headers });

    expect(response.statusCode).toBe(303);
    expect((await app.inject({ url: '/admin/runs/r1', headers })).statusCode).toBe(200);
    expect(changes.json()).toMatchObject({ status: 403, type: '/docs/problems#read_only' });
    const out = await app.inject({ method: 'POST', url: '/admin/logout', headers });
    expect(out.statusCode).toBe(303);
  });

  test('with a wrong secret says so, sets no cookie and is slowed down', async () => {
    const { logIn, lines } = await setup({ failuresPerMinuteMax: 1 });

    const wrong = await logIn('planted');
    const slowed = await logIn('planted');

    expect(wrong.statusCode).toBe(401);
    expect(wrong.body).toContain('This is not the admin secret.');
    expect(wrong.headers['set-cookie']).toBeUndefined();
    expect(slowed.statusCode).toBe(429);
    expect(slowed.body).toContain('Too many wrong secrets');
    expect(Number(slowed.headers['retry-after'])).toBeGreaterThan(0);
    expect(JSON.stringify([wrong.body, slowed.body, lines])).not.toContain('planted');
    expect((await logIn()).statusCode).toBe(303);
  });

  test.each([
    ['/admin/queues/queue/backfill-runs?status=failed', '/admin/queues/queue/backfill-runs?status=failed'],
    ['/admin/runs/r1', '/admin/runs/r1'],
    ['/admin/login', '/admin/queues'],
    ['/admin/logout', '/admin/queues'],
    ['//evil.example/admin/queues', '/admin/queues'],
    ['/\\evil.example/admin/queues', '/admin/queues'],
    ['https://evil.example/admin/queues', '/admin/queues'],
    ['javascript:alert(1)', '/admin/queues'],
    ['/admin/queues/../../api', '/admin/queues'],
    ['/admin/queues\r\nx: y', '/admin/queuesx:%20y'],
  ])('goes on to the wanted page %j as %j', async (next, location) => {
    const { logIn } = await setup();
    const goesTo = (await logIn(ADMIN_SECRET, {}, next)).headers.location;
    expect(goesTo).toBe(location === '/admin/queuesx:%20y' ? '/admin/queues' : location);
  });

  test('remembers the page that was asked for, safely written', async () => {
    const { app } = await setup();
    const page = await app.inject({ url: '/admin/runs/r1?a="><script>', headers: HTML });
    expect(page.body).toContain('value="/admin/runs/r1?a=%22%3E%3Cscript%3E"');
  });

  test.each([
    [{ 'sec-fetch-site': 'cross-site' }, 403],
    [{ 'sec-fetch-site': 'same-site' }, 403],
    [{ 'sec-fetch-site': 'same-origin' }, 303],
    [{ origin: 'https://evil.example' }, 403],
    [{ origin: 'null' }, 403],
    [{ origin: 'https://infill.example', host: 'infill.example' }, 303],
  ])('from a page with the headers %j is answered by %i', async (headers, status) => {
    const { logIn } = await setup();
    expect((await logIn(ADMIN_SECRET, headers)).statusCode).toBe(status);
  });
});

describe('logging out', () => {
  test('ends the session, copies of its cookie too, and no other session', async () => {
    const { app, cookie } = await setup();
    const copied = { cookie: await cookie() };
    const other = { cookie: await cookie() };

    await app.inject({ method: 'POST', url: '/admin/logout', headers: copied });

    expect((await app.inject({ url: '/admin/runs/r1', headers: copied })).statusCode).toBe(401);
    expect((await app.inject({ url: '/admin/runs/r1', headers: other })).statusCode).toBe(200);
    expect((await app.inject({ method: 'POST', url: '/admin/logout' })).statusCode).toBe(303);
  });

  test('asks first, and makes the browser forget the session', async () => {
    const { app, cookie } = await setup();
    const headers = { cookie: await cookie() };

    const asks = await app.inject({ url: '/admin/logout', headers });
    const out = await app.inject({ method: 'POST', url: '/admin/logout', headers });

    expect(asks.headers['set-cookie']).toBeUndefined();
    expect(asks.body).toContain('method="post" action="/admin/logout"');
    expect(out.headers.location).toBe('/admin/login');
    expect(out.headers['set-cookie']).toMatch(/^infill_session=; .*Path=\/admin.*Expires=Thu, 01 Jan 1970/);
  });
});

describe('the status page of a run', () => {
  const headers = { 'x-admin-secret': ADMIN_SECRET, ...HTML };

  test('shows message, progress, counts and tenants, and loads itself again until the run is settled', async () => {
    const { app } = await setup();

    const page = await app.inject({ url: '/admin/runs/r1', headers });

    expect(page.statusCode).toBe(200);
    expect(page.headers.refresh).toBe('5');
    expect(page.body).toContain('Backfilling 382 embeddings.');
    expect(page.body).toContain('<progress id="progress" max="100" value="40">');
    expect(page.body).toContain('acme &#38; sons');
    expect(page.body).toContain('<dt>planned</dt><dd>1,382</dd>');
  });

  test('of a settled run stands still', async () => {
    const view = sampleRun();
    const { app } = await setup({
      readRun: async () => ({ ...view, run: { ...view.run, status: 'succeeded' } }),
    });
    const page = await app.inject({ url: '/admin/runs/r1', headers });
    expect(page.headers.refresh).toBeUndefined();
  });

  test('writes whatever a tenant is called as text', async () => {
    const view = sampleRun();
    const tenants = view.tenants.map((tenant) => ({ ...tenant, tenantId: '<script>alert(1)</script>' }));
    const { app } = await setup({ readRun: async () => ({ ...view, tenants }) });

    const page = await app.inject({ url: '/admin/runs/r1', headers });

    expect(page.body).not.toContain('<script>');
    expect(page.headers['content-security-policy']).toContain("default-src 'none'");
  });

  test('says when there is no such run', async () => {
    const { app } = await setup();
    const page = await app.inject({ url: '/admin/runs/nothing', headers });
    expect(page.statusCode).toBe(404);
    expect(page.body).toContain('No such run');
  });
});
