import { request as httpRequest } from 'node:http';
import type { AddressInfo } from 'node:net';
import fc from 'fast-check';
import type { FastifyInstance } from 'fastify';
import { afterEach, describe, expect, test } from 'vitest';
import { type AccessSecrets, actorOf, isSecret } from '../../src/http/auth.ts';
import { ADMIN_SECRET, buildTestServer, PREFIX, sampleRoutes } from '../support/admin-server.ts';

const servers: FastifyInstance[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((app) => app.close()));
});

async function setup(failuresPerMinuteMax?: number, secrets: Partial<AccessSecrets> = {}) {
  const built = await buildTestServer({
    ...secrets,
    routes: [
      sampleRoutes,
      (app) => {
        app.get('/actor', async (request) => ({ actor: actorOf(request) }));
        app.get('/role', async (request) => ({ role: request.role }));
      },
    ],
    ...(failuresPerMinuteMax !== undefined && { failuresPerMinuteMax }),
  });
  servers.push(built.app);
  const { app } = built;
  const ask = (headers: Record<string, string>, url = `${PREFIX}/plain`, remoteAddress = '127.0.0.1') =>
    app.inject({ url, headers, remoteAddress });
  return { ...built, ask };
}

const EVERY_ROUTE = [
  ['POST', '/start'],
  ['POST', '/start?batchSize=wrong'],
  ['PUT', '/credential/t1'],
  ['GET', '/plain'],
  ['HEAD', '/plain'],
  ['GET', '/conflict'],
  ['GET', '/bug'],
  ['DELETE', '/plain'],
  ['OPTIONS', '/plain'],
  ['GET', '/there/is/no/such/route'],
  ['GET', '/'],
  ['GET', ''],
] as const;

describe('every path under the prefix, known or not,', () => {
  test.each<[string, Record<string, string>]>([
    ['no secret', {}],
    ['an empty secret', { 'x-admin-secret': '' }],
    ['a wrong secret', { 'x-admin-secret': 'wrong, and long enough to be one' }],
    ['the beginning of the secret', { 'x-admin-secret': ADMIN_SECRET.slice(0, -1) }],
    ['the secret and more', { 'x-admin-secret': `${ADMIN_SECRET}.` }],
    ['the secret in another header', { authorization: `Bearer ${ADMIN_SECRET}` }],
    ['the word undefined', { 'x-admin-secret': 'undefined' }],
  ])('answers 401 to %s, before it looks at anything else', async (_name, headers) => {
    const { app, lines } = await setup();

    for (const [method, path] of EVERY_ROUTE) {
      const response = await app.inject({
        method,
        url: PREFIX + path,
        headers,
        payload: method === 'PUT' ? '{' : '',
      });
      expect(response.statusCode, `${method} ${path}`).toBe(401);
      if (method === 'HEAD') continue;
      expect(response.headers['content-type']).toContain('application/problem+json');
      expect(response.json()).toMatchObject({ status: 401, type: '/docs/problems#unauthorized' });
    }
    expect(JSON.stringify(lines)).not.toContain(ADMIN_SECRET.slice(0, -1));
  });

  test.each([
    ['a percent-encoding that cannot be read', `${PREFIX}/credential/%zz`],
    ['a part that is too long', `${PREFIX}/credential/${'x'.repeat(501)}`],
    ['such a path of the pages', '/admin/runs/%zz'],
  ])('answers 401 to who has no secret, also for %s', async (_name, url) => {
    const { app, secret } = await setup();
    const method = 'PUT';

    const none = await app.inject({ method, url });
    const wrong = await app.inject({ method, url, headers: { 'x-admin-secret': 'wrong' } });
    const right = await app.inject({ method, url, headers: secret });

    expect(none.json()).toMatchObject({ status: 401, type: '/docs/problems#unauthorized' });
    expect(wrong.statusCode).toBe(401);
    expect([400, 414]).toContain(right.statusCode);
  });

  test('answers 401 when the header is there twice, even if both are right', async () => {
    const { app } = await setup();
    await app.listen({ host: '127.0.0.1', port: 0 });
    const { port } = app.server.address() as AddressInfo;
    const headers = ['host', 'localhost', 'x-admin-secret', ADMIN_SECRET, 'X-Admin-Secret', ADMIN_SECRET];

    const status = await new Promise((resolve, reject) => {
      httpRequest({ host: '127.0.0.1', port, path: `${PREFIX}/plain`, headers }, (response) => {
        response.resume();
        resolve(response.statusCode);
      })
        .on('error', reject)
        .end();
    });

    expect(status).toBe(401);
  });

  test('answers to the right secret, in any spelling of the header', async () => {
    const { ask } = await setup();

    expect((await ask({ 'x-admin-secret': ADMIN_SECRET })).statusCode).toBe(200);
    expect((await ask({ 'X-ADMIN-SECRET': ADMIN_SECRET })).statusCode).toBe(200);
    expect((await ask({ 'x-admin-secret': ADMIN_SECRET }, `${PREFIX}/nothing`)).statusCode).toBe(404);
  });
});

describe('other secrets', () => {
  const OLD = 'the admin secret before this one';
  const VIEWER = 'the secret of those who only look';

  test.each([
    ['the admin secret', ADMIN_SECRET, 'admin'],
    ['the admin secret before it', OLD, 'admin'],
    ['the viewer secret', VIEWER, 'viewer'],
  ])('make the caller with %s what it is', async (_name, secret, role) => {
    const { ask } = await setup(undefined, { adminSecretPrevious: OLD, viewerSecret: VIEWER });
    const response = await ask({ 'x-admin-secret': secret }, `${PREFIX}/role`);
    expect(response.json()).toEqual({ role });
  });

  test('are no secrets where they are not configured', async () => {
    const { ask } = await setup();
    for (const secret of [OLD, VIEWER, 'null', 'undefined'])
      expect((await ask({ 'x-admin-secret': secret })).statusCode, secret).toBe(401);
  });

  test('the viewer reads, and anything else is refused with 403, known or not', async () => {
    const { app, ask } = await setup(undefined, { viewerSecret: VIEWER });
    const headers = { 'x-admin-secret': VIEWER };

    expect((await ask(headers)).statusCode).toBe(200);
    expect((await app.inject({ method: 'HEAD', url: `${PREFIX}/plain`, headers })).statusCode).toBe(200);
    expect((await ask(headers, `${PREFIX}/nothing`)).statusCode).toBe(404);
    for (const [method, path] of EVERY_ROUTE) {
      if (method === 'GET' || method === 'HEAD') continue;
      const response = await app.inject({ method, url: PREFIX + path, headers });
      expect(response.statusCode, `${method} ${path}`).toBe(403);
      expect(response.headers['content-type']).toContain('application/problem+json');
      expect(response.json()).toMatchObject({ status: 403, type: '/docs/problems#read_only' });
    }
    const unreadable = await app.inject({ method: 'PUT', url: `${PREFIX}/credential/%zz`, headers });
    expect(unreadable.statusCode).toBe(403);
  });

  test('must be long enough, and the viewer secret none of the admin', async () => {
    const long = 'one secret for everything';
    await expect(buildTestServer({ viewerSecret: 'short' })).rejects.toThrow('the viewer secret must have');
    await expect(buildTestServer({ adminSecretPrevious: '' })).rejects.toThrow('at least 16 characters');
    await expect(buildTestServer({ adminSecret: long, viewerSecret: long })).rejects.toThrow('must not be');
  });
});

describe('failures', () => {
  test('beyond the limit are answered by 429 and the seconds to wait', async () => {
    const { ask } = await setup(3);
    const statuses: number[] = [];

    for (let i = 0; i < 4; i += 1) statuses.push((await ask({ 'x-admin-secret': 'wrong' })).statusCode);
    const refused = await ask({ 'x-admin-secret': 'wrong again' });

    expect(statuses).toEqual([401, 401, 401, 429]);
    expect(refused.json()).toMatchObject({ status: 429, type: '/docs/problems#too_many_failures' });
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
    expect(Number(refused.headers['retry-after'])).toBeLessThanOrEqual(60);
  });

  test('of one address are not counted against another', async () => {
    const { ask } = await setup(1);
    const wrong = { 'x-admin-secret': 'wrong' };

    await ask(wrong);
    await ask(wrong);

    expect((await ask(wrong)).statusCode).toBe(429);
    expect((await ask(wrong, undefined, '10.0.0.2')).statusCode).toBe(401);
  });

  test('never keep the right secret out, and the right secret is not counted', async () => {
    const { ask } = await setup(2);
    const right = { 'x-admin-secret': ADMIN_SECRET };

    for (let i = 0; i < 5; i += 1) expect((await ask(right)).statusCode).toBe(200);
    for (let i = 0; i < 5; i += 1) await ask({ 'x-admin-secret': 'wrong' });

    expect((await ask({ 'x-admin-secret': 'wrong' })).statusCode).toBe(429);
    expect((await ask(right)).statusCode).toBe(200);
  });

  test('are answered by 401 for at least the first hundred of a minute', async () => {
    const { ask } = await setup();
    for (let i = 0; i < 100; i += 1) expect((await ask({ 'x-admin-secret': 'wrong' })).statusCode).toBe(401);
  });

  test('are only wrong secrets: without one the answer is 401, however often and whatever came before', async () => {
    const { ask } = await setup(1);
    const none = [{}, { 'x-admin-secret': '' }] as const;

    for (let i = 0; i < 3; i += 1)
      for (const headers of none) expect((await ask(headers)).statusCode).toBe(401);
    expect((await ask({ 'x-admin-secret': 'wrong' })).statusCode).toBe(401);
    expect((await ask({ 'x-admin-secret': 'wrong' })).statusCode).toBe(429);
    for (const headers of none) expect((await ask(headers)).statusCode).toBe(401);
  });

  test('are warned of in the log until the limit, which one line tells', async () => {
    const { ask, lines } = await setup(2);

    for (let i = 0; i < 4; i += 1) await ask({ 'x-admin-secret': 'wrong' });

    const refused = lines.filter(({ msg }) => msg === 'secret_refused');
    expect(refused.map(({ level, limitReached }) => [level, limitReached])).toEqual([
      ['warn', false],
      ['warn', true],
      ['debug', false],
      ['debug', false],
    ]);
  });
});

describe('the admin secret', () => {
  test('must be long enough to be one, or no server is built', async () => {
    await expect(buildTestServer({ adminSecret: '' })).rejects.toThrow('at least 16 characters');
    await expect(buildTestServer({ adminSecret: 'short' })).rejects.toThrow('at least 16 characters');
  });

  test('may hold letters of any language, as curl and wget send them', async () => {
    const adminSecret = 'Schlüssel für 管理者';
    const { app } = await buildTestServer({ adminSecret, routes: [sampleRoutes] });
    servers.push(app);

    const header = Buffer.from(adminSecret, 'utf8').toString('latin1');

    expect(
      (await app.inject({ url: `${PREFIX}/plain`, headers: { 'x-admin-secret': header } })).statusCode,
    ).toBe(200);
  });

  test('invariant: only the secret itself is the secret', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (given, secret) => {
        expect(isSecret(given, secret)).toBe(given === secret && given !== '');
      }),
    );
    expect(isSecret(undefined, 'undefined')).toBe(false);
    expect(isSecret(undefined, '')).toBe(false);
  });
});

describe('who acts', () => {
  test.each([
    ['anna@example.com', 'anna@example.com'],
    ['  Anna Müller ', 'Anna Müller'],
    ['', '127.0.0.1'],
    ['   ', '127.0.0.1'],
    ['bell\u0007', '127.0.0.1'],
    ['x'.repeat(150), 'x'.repeat(100)],
    ['evil\u202eliame', '127.0.0.1'],
  ])('is named by x-actor %j as %j', async (header, actor) => {
    const { ask } = await setup();
    const bytes = Buffer.from(header, 'utf8').toString('latin1');

    const response = await ask({ 'x-admin-secret': ADMIN_SECRET, 'x-actor': bytes }, `${PREFIX}/actor`);

    expect(response.json()).toEqual({ actor });
  });

  test('is the address where there is no such header', async () => {
    const { ask } = await setup();
    const response = await ask({ 'x-admin-secret': ADMIN_SECRET }, `${PREFIX}/actor`, '10.1.2.3');
    expect(response.json()).toEqual({ actor: '10.1.2.3' });
  });
});
