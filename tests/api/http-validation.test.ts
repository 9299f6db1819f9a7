import type { FastifyInstance } from 'fastify';
import { afterEach, describe, expect, test } from 'vitest';
import { PROBLEMS } from '../../src/http/problems.ts';
import { buildTestServer, PREFIX, sampleRoutes } from '../support/admin-server.ts';

const UNSTORABLE = 'must be text that can be stored: no NUL character, no half of a surrogate pair';

const servers: FastifyInstance[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((app) => app.close()));
});

async function setup() {
  const built = await buildTestServer({ routes: [sampleRoutes] });
  servers.push(built.app);
  const { app, secret } = built;
  const start = async (query: string) => {
    const response = await app.inject({ method: 'POST', url: `${PREFIX}/start${query}`, headers: secret });
    return { status: response.statusCode, type: response.headers['content-type'], body: response.json() };
  };
  return { ...built, start };
}

describe('a parameter', () => {
  test('is read as what it stands for, or has its default', async () => {
    const { start } = await setup();

    expect((await start('')).body).toEqual({ tenantId: [], batchSize: 50, dryRun: false });
    expect((await start('?batchSize=2048&dryRun=true&tenantId=a&tenantId=b')).body).toEqual({
      tenantId: ['a', 'b'],
      batchSize: 2048,
      dryRun: true,
    });
    expect((await start('?tenantId=a')).body).toMatchObject({ tenantId: ['a'] });
  });

  test.each([
    ['?batchSize=0', 'batchSize', 'must be a whole number from 1 to 2048, got "0"'],
    ['?batchSize=abc', 'batchSize', 'must be a whole number from 1 to 2048, got "abc"'],
    ['?batchSize=', 'batchSize', 'must be a whole number from 1 to 2048, got ""'],
    ['?batchSize=1e3', 'batchSize', 'must be a whole number from 1 to 2048, got "1e3"'],
    ['?batchSize=007', 'batchSize', 'must be a whole number from 1 to 2048, got "007"'],
    ['?batchSize=-0', 'batchSize', 'must be a whole number from 1 to 2048, got "-0"'],
    ['?share=0x10', 'share', 'must be a number above 0 and at most 100, got "0x10"'],
    ['?share=%205', 'share', 'must be a number above 0 and at most 100, got " 5"'],
    ['?share=1e1', 'share', 'must be a number above 0 and at most 100, got "1e1"'],
    ['?share=0', 'share', 'must be a number above 0 and at most 100, got "0"'],
    ['?slug=a%00', 'slug', UNSTORABLE],
    ['?batchSize=1.5', 'batchSize', 'must be a whole number from 1 to 2048, got "1.5"'],
    ['?batchSize=1&batchSize=2', 'batchSize', 'must be a whole number from 1 to 2048, got 2 values'],
    ['?dryRun=maybe', 'dryRun', 'must be true or false, got "maybe"'],
    ['?dryRun', 'dryRun', 'must be true or false, got ""'],
    ['?target=other', 'target', 'must be one of notes, tickets, got "other"'],
    ['?runId=12', 'runId', 'must be a UUID, got "12"'],
    ['?slug=b', 'slug', 'must begin with an a, got "b"'],
    ['?tenantId=toolong', 'tenantId.0', 'must be text of 1 to 5 characters, got "toolong"'],
    ['?tenantId=a&tenantId=', 'tenantId.1', 'must be text of 1 to 5 characters, got ""'],
    ['?tenantId=a&tenantId=b&tenantId=c&tenantId=d', 'tenantId', 'must be a list of at most 3, got 4 values'],
    [
      '?dryrun=true',
      'dryrun',
      'is not a known parameter: known are target, tenantId, batchSize, dryRun, runId, slug, share',
    ],
  ])('%s is a 400 that names the field and what is allowed', async (query, field, message) => {
    const { start } = await setup();

    const { status, type, body } = await start(query);

    expect({ status, type }).toEqual({ status: 400, type: 'application/problem+json; charset=utf-8' });
    expect(body).toMatchObject({
      type: '/docs/problems#invalid_request',
      title: PROBLEMS.invalid_request.title,
      status: 400,
      detail: `${field} ${message}`,
      errors: [{ field, message }],
    });
  });

  test('that is wrong does not hide another that is wrong', async () => {
    const { start } = await setup();

    const { body } = await start('?batchSize=0&dryRun=maybe&foo=1');

    expect(body.errors.map(({ field }: { field: string }) => field).toSorted()).toEqual([
      'batchSize',
      'dryRun',
      'foo',
    ]);
  });

  test('of a path is text that can be stored', async () => {
    const { app, secret } = await setup();
    const headers = { ...secret, 'content-type': 'application/json' };

    const response = await app.inject({
      method: 'PUT',
      url: `${PREFIX}/credential/a%00b`,
      headers,
      payload: '{"apiKey":"planted-key"}',
    });

    expect(response.statusCode).toBe(400);
    expect(response.json().errors).toEqual([{ field: 'tenantId', message: UNSTORABLE }]);
  });

  test('is refused where a route has none', async () => {
    const { app, secret } = await setup();

    const response = await app.inject({ url: `${PREFIX}/plain?limit=1`, headers: secret });

    expect(response.statusCode).toBe(400);
    expect(response.json().errors).toEqual([
      { field: 'limit', message: 'is not a known parameter: there are no parameters here' },
    ]);
  });
});

describe('a body', () => {
  const put = async (payload: string, type = 'application/json') => {
    const { app, secret } = await setup();
    const headers = { ...secret, 'content-type': type };
    return app.inject({ method: 'PUT', url: `${PREFIX}/credential/t1`, headers, payload });
  };

  test('is taken where a route has a schema for it', async () => {
    const response = await put('{"apiKey":"planted-key","weight":2}', 'application/json; charset=utf-8');
    expect(response.json()).toEqual({ tenantId: 't1', fields: ['apiKey', 'weight'] });
  });

  test('is never repeated in an answer, right or wrong', async () => {
    const answers = await Promise.all([
      put('{"apiKey":"planted"}'),
      put('{"apiKey":"planted-key","weight":"planted"}'),
      put('{"apiKey":"planted'),
      put('planted'),
      put('planted', 'text/plain'),
      put('{"apiKey":["planted"],"pace":{"a":1,"b":2}}'),
    ]);

    expect(answers.map(({ statusCode }) => statusCode)).toEqual([400, 400, 400, 400, 415, 400]);
    for (const { body } of answers) expect(body).not.toContain('planted');
    expect(answers[0]?.json().errors[0].message).toBe('must be text of at least 8 characters');
    expect(answers[5]?.json().errors).toContainEqual({
      field: 'apiKey',
      message: 'must be text of at least 8 characters',
    });
  });

  test.each([
    ['a NUL character', '{"apiKey":"planted\\u0000key"}', 'apiKey'],
    ['half of a surrogate pair', '{"apiKey":"planted\\ud83dkey"}', 'apiKey'],
    ['it deep inside', '{"apiKey":"planted-key","pace":{"a":[["\\ud800"]]}}', 'pace.a.0.0'],
  ])('with %s in a text is refused, and the field is named', async (_name, payload, field) => {
    const response = await put(payload);

    expect(response.statusCode).toBe(400);
    expect(response.json().errors).toContainEqual({ field, message: UNSTORABLE });
    expect(response.body).not.toContain('planted');
  });

  test('may hold every character that Postgres takes', async () => {
    expect((await put('{"apiKey":"\\ud83d\\ude00 \\u0001 long enough"}')).statusCode).toBe(200);
  });

  test('with a field that is not known is refused', async () => {
    const response = await put('{"apiKey":"planted-key","colour":1}');
    expect(response.json().errors).toEqual([
      { field: 'colour', message: 'is not a known field: known are apiKey, weight, pace' },
    ]);
  });

  test('that would be ignored is refused, so that a form with dryRun=true starts no real run', async () => {
    const { app, secret } = await setup();
    const post = (payload: string, type: string) =>
      app.inject({
        method: 'POST',
        url: `${PREFIX}/start`,
        headers: { ...secret, 'content-type': type },
        payload,
      });

    const form = await post('dryRun=true', 'application/x-www-form-urlencoded');
    const json = await post('{"dryRun":true}', 'application/json');
    const malformed = await post('{"dryRun":', 'application/json');

    expect(form.json()).toMatchObject({ status: 400, type: '/docs/problems#unexpected_body' });
    expect(json.json()).toMatchObject({ status: 400, type: '/docs/problems#unexpected_body' });
    expect(malformed.json()).toMatchObject({ status: 400, type: '/docs/problems#malformed_json' });
  });

  test('may not change a prototype', async () => {
    expect((await put('{"apiKey":"planted-key","__proto__":{"x":1}}')).statusCode).toBe(400);
  });

  test('that is too large is a 413', async () => {
    const response = await put(JSON.stringify({ apiKey: 'x'.repeat(70_000) }));
    expect(response.json()).toMatchObject({ status: 413, type: '/docs/problems#body_too_large' });
  });
});
