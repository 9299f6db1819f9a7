import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openKey } from '../../src/credentials/seal.ts';
import type { Answer } from '../support/call-api.ts';
import { type Json, jsonBody, PLATFORM_KEY, type System, startSystem, wrongRows } from '../support/system.ts';

const KEY = 'sk-key-of-acme-0001';
const NEW_KEY = 'sk-key-of-acme-0002';

let system: System;

beforeAll(async () => {
  system = await startSystem();
  for (const key of [KEY, NEW_KEY]) system.openai.accounts.put({ key, organization: 'org-acme' });
});
afterAll(() => system.close());
beforeEach(async () => {
  await system.sql`TRUNCATE notes, infill.tenant_credentials, infill.audit_events`;
  await system.addRows([
    { tenant: 'acme', text: 'a note of acme' },
    { tenant: 'globex', text: 'a note of globex' },
  ]);
  system.openai.ledger.reset();
});

const pathOf = (tenant: string) => `/api/v1/admin/tenants/${encodeURIComponent(tenant)}/credential`;
const put = (body: unknown, tenant = 'acme', query = '') =>
  system.call('PUT', `${pathOf(tenant)}${query}`, jsonBody(body));
const sealingKey = () => Buffer.from(system.env.CREDENTIALS_KEY ?? '', 'base64');
const keysOf = (text: string) => [...(system.openai.ledger.keysByText().get(text) ?? [])];

describe('a credential', () => {
  test('is stored sealed, shown masked, and removed', async () => {
    const given = {
      apiKey: KEY,
      organization: 'org-acme',
      requestsPerMinute: 500,
      tokensPerMinute: 100_000,
      weight: 2.5,
    };

    const { apiKey: _key, ...shown } = given;

    const stored = await put(given);
    expect(stored).toMatchObject({
      status: 200,
      body: {
        ...shown,
        tenantId: 'acme',
        last4: '0001',
        status: 'valid',
        reason: null,
        baseUrl: null,
      },
    });
    expect(Date.parse(stored.body.checkedAt)).toBeGreaterThan(Date.now() - 60_000);
    expect((await system.call('GET', pathOf('acme'))).body).toEqual(stored.body);
    expect(JSON.stringify(stored.body)).not.toContain(KEY.slice(0, -4));

    const [row] = await system.sql`SELECT sealed_key FROM infill.tenant_credentials`;
    expect(row?.sealed_key.includes(KEY)).toBe(false);
    const terms = { tenantId: 'acme', baseUrl: null, organization: 'org-acme' };
    expect(openKey(row?.sealed_key, terms, [sealingKey()]).text).toBe(KEY);

    expect((await system.call('DELETE', pathOf('acme'))).status).toBe(204);
    expect((await system.call('DELETE', pathOf('acme'))).status).toBe(204);
    expect(await system.call('GET', pathOf('acme'))).toMatchObject({
      status: 404,
      body: { detail: 'Tenant "acme" has no credential of its own.' },
    });
    const events =
      await system.sql`SELECT action, subject, details->>'last4' AS last4 FROM infill.audit_events ORDER BY event_id`;
    expect([...events]).toEqual([
      { action: 'credential.stored', subject: 'acme', last4: '0001' },
      { action: 'credential.removed', subject: 'acme', last4: null },
    ]);
  });

  test('is replaced as a whole: what is left out is unset', async () => {
    await put({ apiKey: KEY, organization: 'org-acme', requestsPerMinute: 500, weight: 2 });

    expect((await put({ apiKey: NEW_KEY })).body).toMatchObject({
      last4: '0002',
      organization: null,
      requestsPerMinute: null,
      weight: 1,
    });
  });

  test('may have no limit, so that nothing is guessed before its provider speaks', async () => {
    const limits = { requestsPerMinute: 'unlimited', tokensPerMinute: 1_000 };
    await put({ apiKey: KEY, ...limits });

    expect((await system.call('GET', pathOf('acme'))).body).toMatchObject(limits);
  });

  test('may name a header for its key, further ones, a model and a query, and shows no value of a header', async () => {
    const given = {
      apiKeyHeader: 'API-Key',
      model: 'my-deployment',
      baseUrl: 'https://example.org/openai/?api-version=1',
    };
    const headers = { 'X-Gateway': 'planted-gateway-value' };

    const stored = await put({ apiKey: KEY, ...given, headers }, 'acme', '?check=false');

    expect(stored).toMatchObject({
      status: 200,
      body: {
        apiKeyHeader: 'api-key',
        headerNames: ['x-gateway'],
        model: 'my-deployment',
        baseUrl: 'https://example.org/openai?api-version=1',
      },
    });
    expect(JSON.stringify([stored.body, (await system.call('GET', pathOf('acme'))).body])).not.toContain(
      'planted',
    );
    const [row] = await system.sql<{ row: string }[]>`
      SELECT c::text || encode(c.sealed_key, 'escape') AS row FROM infill.tenant_credentials c`;
    expect(row?.row).not.toContain('planted');
    expect((await put({ apiKey: KEY })).body).toMatchObject({
      apiKeyHeader: null,
      headerNames: [],
      model: null,
    });
  });

  test.each(['a/b', 'with space', 'Zoë & 日本 😀', '../../etc', 'o\'neil"; --', '%2f'])(
    'may be of the tenant %j',
    async (tenant) => {
      expect(await put({ apiKey: KEY }, tenant)).toMatchObject({ status: 200, body: { tenantId: tenant } });
      expect((await system.call('GET', pathOf(tenant))).body.tenantId).toBe(tenant);
      await system.addRows([{ tenant, text: `a note of ${tenant}` }]);

      expect((await system.backfill(`?tenantId=${encodeURIComponent(tenant)}`)).status).toBe('succeeded');
      expect(keysOf(`a note of ${tenant}`)).toEqual([KEY]);
    },
  );

  test('counts from the very next run on, put in, replaced or removed', async () => {
    const clear = () => system.sql`UPDATE notes SET embedding = NULL`;
    await system.backfill();
    await put({ apiKey: KEY });
    await clear();
    await system.backfill();
    await put({ apiKey: NEW_KEY });
    await clear();
    await system.backfill();
    await system.call('DELETE', pathOf('acme'));
    await clear();
    await system.backfill();

    const sent = system.openai.ledger.entries.filter(({ texts }) => texts.includes('a note of acme'));
    expect(sent.map(({ key }) => key)).toEqual([PLATFORM_KEY, KEY, NEW_KEY, PLATFORM_KEY]);
    expect(keysOf('a note of globex')).toEqual([PLATFORM_KEY]);
    expect(wrongRows(await system.rows())).toEqual([]);
  });
});

describe('a wrong credential is refused, nothing is stored, and the key is not repeated:', () => {
  const mistake = (answer: Answer, field: string) => {
    expect(answer).toMatchObject({
      status: 400,
      body: { type: '/docs/problems#invalid_request' },
    });
    expect(new Set(answer.body.errors.map((error: Json) => error.field))).toEqual(new Set([field]));
    expect(JSON.stringify(answer.body)).not.toContain('planted');
  };

  test.each([
    ['no body', undefined, 'body'],
    ['no key', { weight: 1 }, 'apiKey'],
    ['an empty key', { apiKey: '' }, 'apiKey'],
    ['a key with a space', { apiKey: 'planted key of acme' }, 'apiKey'],
    ['a key with a line break', { apiKey: 'planted-key\nx-evil: 1' }, 'apiKey'],
    ['a key that is no text', { apiKey: { is: 'planted-key-of-acme' } }, 'apiKey'],
    ['no weight at all', { apiKey: KEY, weight: 0 }, 'weight'],
    ['a limit in words', { apiKey: KEY, tokensPerMinute: 'many' }, 'tokensPerMinute'],
    ['half a request a minute', { apiKey: KEY, requestsPerMinute: 0.5 }, 'requestsPerMinute'],
    ['a misspelt field', { apiKey: KEY, base_url: 'https://planted' }, 'base_url'],
    ['an address that is not https', { apiKey: KEY, baseUrl: 'http://planted.example/v1' }, 'baseUrl'],
    [
      'an address with a password',
      { apiKey: KEY, baseUrl: 'https://user:planted@example.org/v1' },
      'baseUrl',
    ],
    ['a header with a line break', { apiKey: KEY, headers: { 'x-a': 'planted\nx-evil: 1' } }, 'headers'],
    [
      'a header that takes the place of the key',
      { apiKey: KEY, headers: { Authorization: 'planted' } },
      'headers',
    ],
    ['a header that the request decides', { apiKey: KEY, apiKeyHeader: 'host' }, 'apiKeyHeader'],
    ['an address that is none', { apiKey: KEY, baseUrl: 'planted' }, 'baseUrl'],
  ])('%s', async (_name, body, field) => {
    mistake(body === undefined ? await system.call('PUT', pathOf('acme')) : await put(body), field);
    expect(await system.sql`SELECT 1 FROM infill.tenant_credentials`).toEqual([]);
  });

  test('a key that the provider refuses, unless nobody is to ask', async () => {
    const unknown = { apiKey: 'sk-planted-and-unknown' };

    const refused = await put(unknown);
    expect(refused).toMatchObject({ status: 422, body: { type: '/docs/problems#key_refused' } });
    expect(JSON.stringify(refused.body)).not.toContain('planted');
    expect(await system.sql`SELECT 1 FROM infill.tenant_credentials`).toEqual([]);

    expect(await put(unknown, 'acme', '?check=false')).toMatchObject({
      status: 200,
      body: { status: 'unchecked', checkedAt: null },
    });
  });
});

test('a stored key that does not open is said to be in need of being stored again, and is not repeated', async () => {
  await put({ apiKey: KEY });
  await system.sql`UPDATE infill.tenant_credentials SET sealed_key = decode(repeat('00', 60), 'hex')`;

  const answer = await system.call('POST', `${pathOf('acme')}/check`);

  expect(answer).toMatchObject({ status: 409, body: { type: '/docs/problems#conflict' } });
  expect(answer.body.detail).toContain('store the key again');
  expect(keysOf('hello')).toEqual([KEY]);
});

// The last of the file: it replaces the worker.
test('with TENANT_KEY_POLICY=required a tenant without a key is not embedded, says why, and the others are', async () => {
  await put({ apiKey: KEY });
  system.openai.ledger.reset();
  await system.processes.at(-1)?.stop();
  await system.startWorker({ TENANT_KEY_POLICY: 'required' });

  const run = await system.backfill();

  expect(run).toMatchObject({ status: 'incomplete', rows: { embedded: 1, failed: 0, remaining: 1 } });
  expect(run.reason).toContain('globex: key_missing');
  expect(keysOf('a note of acme')).toEqual([KEY]);
  expect(system.openai.ledger.callsBy(PLATFORM_KEY)).toEqual([]);
});
