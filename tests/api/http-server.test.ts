import { request as httpRequest } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { afterEach, describe, expect, test } from 'vitest';
import { PROBLEMS } from '../../src/http/problems.ts';
import { buildTestServer, PREFIX, sampleRoutes } from '../support/admin-server.ts';

const servers: FastifyInstance[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((app) => app.close()));
});

async function setup() {
  const built = await buildTestServer({ routes: [sampleRoutes] });
  servers.push(built.app);
  const { app } = built;
  const listen = async () => {
    await app.listen({ host: '127.0.0.1', port: 0 });
    return (app.server.address() as AddressInfo).port;
  };
  return { ...built, listen };
}

describe('an empty body', () => {
  test.each([
    undefined,
    'application/x-www-form-urlencoded',
    'application/json',
    'text/plain',
    'application/octet-stream',
    'multipart/form-data; boundary=x',
    'garbage',
    ';',
  ])('of the content type %s starts the route', async (type) => {
    const { listen, secret } = await setup();
    const headers = { ...secret, 'content-length': '0', ...(type !== undefined && { 'content-type': type }) };

    const status = await send(await listen(), 'POST', `${PREFIX}/start?dryRun=true`, headers, '');

    expect(status).toBe(200);
  });

  test('without a length may have a content type that cannot be read', async () => {
    const { app, secret } = await setup();
    const headers = { ...secret, 'content-type': 'garbage' };

    expect((await app.inject({ method: 'POST', url: `${PREFIX}/start`, headers })).statusCode).toBe(200);
  });

  test('may come in chunks, and may be an empty JSON object', async () => {
    const { listen, secret } = await setup();
    const port = await listen();
    const json = { ...secret, 'content-type': 'application/json' };

    expect(
      await send(port, 'POST', `${PREFIX}/start`, { ...secret, 'transfer-encoding': 'chunked' }, ''),
    ).toBe(200);
    expect(await send(port, 'POST', `${PREFIX}/start`, json, '{}')).toBe(200);
  });

  test.each(['garbage', 'form; charset=utf-8', '/', 'text/'])(
    'may come in chunks of the content type %s, which something in it may not',
    async (type) => {
      const { listen, secret } = await setup();
      const port = await listen();
      const headers = { ...secret, 'transfer-encoding': 'chunked', 'content-type': type };

      expect(await send(port, 'POST', `${PREFIX}/start`, headers, '')).toBe(200);
      expect(await send(port, 'POST', `${PREFIX}/start`, headers, 'dryRun=true')).toBe(400);
      expect(await send(port, 'PUT', `${PREFIX}/credential/t1`, headers, 'apiKey=planted')).toBe(415);
    },
  );

  test('is named as missing where a route needs one', async () => {
    const { app, secret } = await setup();

    const response = await app.inject({ method: 'PUT', url: `${PREFIX}/credential/t1`, headers: secret });

    expect(response.statusCode).toBe(400);
    expect(response.json().errors).toEqual([{ field: 'body', message: 'is missing: must be a JSON object' }]);
  });
});

describe('an error', () => {
  test('of ours carries its own members', async () => {
    const { app, secret } = await setup();

    const response = await app.inject({ url: `${PREFIX}/conflict`, headers: secret });

    expect(response.json()).toEqual({
      type: '/docs/problems#unsettled_run',
      title: PROBLEMS.unsettled_run.title,
      status: 409,
      detail: 'Target notes has an unsettled run.',
      requestId: response.headers['x-request-id'],
      runId: 'r1',
    });
  });

  test('that nobody planned for tells the caller nothing and the log everything but parameters', async () => {
    const { app, lines, secret } = await setup();

    const response = await app.inject({
      url: `${PREFIX}/bug`,
      headers: { ...secret, 'x-request-id': 'request-0001' },
    });

    expect(response.json()).toMatchObject({
      status: 500,
      type: '/docs/problems#internal',
      requestId: 'request-0001',
    });
    expect(response.body).not.toMatch(/query|relation|planted/);
    const logged = lines.find(({ msg }) => msg === 'request_failed');
    expect(logged).toMatchObject({
      level: 'error',
      requestId: 'request-0001',
      err: { message: 'Failed query: select $1' },
    });
    expect(JSON.stringify(lines)).toContain('does not exist');
    expect(JSON.stringify(lines)).not.toContain('planted');
  });

  test('is a 404 for an unknown route and a 405 for a wrong method, which names the right ones', async () => {
    const { app, secret } = await setup();

    const unknown = await app.inject({ url: '/nothing/here?x=1' });
    const below = await app.inject({ url: `${PREFIX}/nothing`, headers: secret });
    const wrong = await app.inject({ method: 'DELETE', url: `${PREFIX}/credential/t1`, headers: secret });
    const health = await app.inject({ method: 'POST', url: '/livez' });

    expect(unknown.json()).toMatchObject({ status: 404, detail: 'There is no route GET /nothing/here.' });
    expect(below.json()).toMatchObject({ status: 404 });
    expect(wrong.json()).toMatchObject({
      status: 405,
      detail: `${PREFIX}/credential/t1 takes PUT, not DELETE.`,
    });
    expect(wrong.headers.allow).toBe('PUT');
    expect(health.headers.allow).toBe('GET, HEAD');
    for (const { headers } of [unknown, below, wrong, health]) {
      expect(headers['content-type']).toContain('application/problem+json');
    }
  });

  test.each([
    ['JSON', 'application/json', '{"apiKey":"sk-planted"}'],
    ['JSON that breaks off', 'application/json', '{"apiKey":"sk-planted'],
    ['a form', 'application/x-www-form-urlencoded', 'dryRun=true'],
    ['a type that cannot be read', 'garbage', 'dryRun=true'],
    ['more than any route takes', 'application/json', JSON.stringify('x'.repeat(70_000))],
  ])('is that 404 or 405 whatever the body is: %s', async (_name, type, payload) => {
    const { app, secret } = await setup();
    const ask = (method: 'POST' | 'PATCH', path: string, sent: Record<string, string>) =>
      app.inject({ method, url: path, headers: { ...sent, 'content-type': type }, payload });

    const outside = await ask('POST', '/nothing', {});
    const unknown = await ask('POST', `${PREFIX}/nothing`, secret);
    const wrong = await ask('PATCH', `${PREFIX}/credential/t1`, secret);
    const stranger = await ask('PATCH', `${PREFIX}/credential/t1`, {});

    expect([outside.statusCode, unknown.statusCode]).toEqual([404, 404]);
    expect(wrong.json()).toMatchObject({ status: 405, type: '/docs/problems#method_not_allowed' });
    expect(wrong.headers.allow).toBe('PUT');
    expect(stranger.statusCode).toBe(401);
    expect(stranger.headers.allow).toBeUndefined();
  });

  test('is a problem too where the path or the request cannot be read', async () => {
    const { app, listen, secret } = await setup();
    const port = await listen();

    const path = await app.inject({ url: `${PREFIX}/credential/%zz`, headers: secret });
    const long = await app.inject({
      method: 'PUT',
      url: `${PREFIX}/credential/${'x'.repeat(501)}`,
      headers: secret,
    });
    const notHttp = await sendRaw(port, 'hello\r\n\r\n');

    expect(path.json()).toMatchObject({ status: 400, type: '/docs/problems#invalid_request' });
    expect(long.json()).toMatchObject({ status: 414, type: '/docs/problems#url_too_long' });
    expect(notHttp).toMatch(/^HTTP\/1\.1 400 [\s\S]*application\/problem\+json[\s\S]*"status":400/);
  });
});

describe('an answer', () => {
  test('carries a request id: the one given if it is one, else a new one', async () => {
    const { app } = await setup();
    const idFor = async (given: string) =>
      (await app.inject({ url: '/livez', headers: { 'x-request-id': given } })).headers['x-request-id'];

    expect(await idFor('from-the-proxy-1')).toBe('from-the-proxy-1');
    expect(await idFor('a b\tc')).toMatch(/^[\da-f-]{36}$/);
  });

  test('holds only what its schema names', async () => {
    const { app, secret } = await setup();
    expect((await app.inject({ url: `${PREFIX}/answer`, headers: secret })).json()).toEqual({ count: 1 });
  });

  test('is logged as one event without query, headers or body, and probes only at debug level', async () => {
    const { app, lines, secret } = await setup();

    await app.inject({ method: 'POST', url: `${PREFIX}/start?tenantId=plant`, headers: secret });
    await app.inject({ url: '/livez' });

    const done = lines.filter(({ msg }) => msg === 'request_done');
    expect(done).toEqual([
      expect.objectContaining({ level: 'info', method: 'POST', route: `${PREFIX}/start`, status: 200 }),
      expect.objectContaining({ level: 'debug', route: '/livez', status: 200 }),
    ]);
    expect(JSON.stringify(lines)).not.toContain('plant');
    expect(JSON.stringify(lines)).not.toContain(secret['x-admin-secret']);
  });
});

describe('/docs', () => {
  test('describes the routes with their limits, their problems and the secret they need', async () => {
    const { app, secret } = await setup();

    const document = (await app.inject({ url: '/docs/json' })).json();

    const operation = document.paths[`${PREFIX}/start`].post;
    expect(operation.parameters).toContainEqual({
      name: 'batchSize',
      in: 'query',
      required: false,
      schema: { type: 'integer', minimum: 1, maximum: 2048, default: 50 },
    });
    expect(operation.security).toEqual([{ adminSecret: [] }]);
    expect(operation.responses['4XX'].content).toHaveProperty('application/problem+json');
    expect(document.components.securitySchemes.adminSecret).toEqual({
      type: 'apiKey',
      in: 'header',
      name: 'x-admin-secret',
    });
    expect(Object.keys(document.paths).filter((path) => !path.startsWith(PREFIX))).toEqual([]);
    expect(JSON.stringify(document)).not.toContain(secret['x-admin-secret']);
  });

  test('needs nothing from another server', async () => {
    const { app } = await setup();

    const page = await app.inject({ url: '/docs' });

    expect(page.statusCode).toBe(200);
    expect(page.body).not.toMatch(/(src|href)="https?:/);
    expect(page.headers['content-security-policy']).toContain("default-src 'self'");
    expect((await app.inject({ url: '/docs/static/swagger-ui-bundle.js' })).statusCode).toBe(200);
  });

  test('explains every kind of problem under the address that answers give', async () => {
    const { app } = await setup();

    const page = await app.inject({ url: '/docs/problems' });

    for (const kind of Object.keys(PROBLEMS)) expect(page.body).toContain(`id="${kind}"`);
  });
});

function send(port: number, method: string, path: string, headers: Record<string, string>, body: string) {
  return new Promise<number | undefined>((resolve, reject) => {
    const request = httpRequest({ host: '127.0.0.1', port, method, path, headers }, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode));
    });
    request.on('error', reject);
    request.end(body);
  });
}

function sendRaw(port: number, text: string) {
  return new Promise<string>((resolve, reject) => {
    let answer = '';
    const socket = connect(port, '127.0.0.1', () => socket.write(text));
    socket.on('data', (chunk) => {
      answer += chunk;
    });
    socket.on('close', () => resolve(answer));
    socket.on('error', reject);
  });
}
