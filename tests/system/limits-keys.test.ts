import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { jsonBody, PLATFORM_KEY, type System, startSystem, wrongRows } from '../support/system.ts';

let system: System;
const WORKERS = 2;

beforeAll(async () => {
  system = await startSystem({ workers: WORKERS });
});
afterAll(() => system?.close());
beforeEach(async () => {
  await system.sql`TRUNCATE notes, infill.quarantined_rows, infill.tenant_credentials`;
  system.openai.faults.clear();
  system.openai.ledger.reset();
});

const notes = (tenant: string, count: number) =>
  Array.from({ length: count }, (_, index) => ({ tenant, text: `${tenant} note ${index}` }));

const credentialPath = (tenant: string) => `/api/v1/admin/tenants/${encodeURIComponent(tenant)}/credential`;
const put = (tenant: string, body: object, query = '') =>
  system.call('PUT', `${credentialPath(tenant)}${query}`, jsonBody(body));
const retry = (runId: string, query = '') =>
  system.call('POST', `/api/v1/admin/backfill-embeddings/${runId}/retry${query}`);

/** Calls with a key that the provider turned away. */
const refusedCalls = (key: string) =>
  system.openai.ledger.callsBy(key).filter(({ status }) => status !== null && status >= 400);

function onlyOwnTexts(key: string, tenant: string): void {
  const foreign = [...system.openai.ledger.textsSentWith(key)].filter(
    (text) => !text.startsWith(`${tenant} note`),
  );
  // A word of our own tells whether a key works.
  expect(foreign.filter((text) => text !== 'hello')).toEqual([]);
}

describe.each([
  { state: 'revoked', status: 'invalid', code: 'key_invalid' },
  { state: 'quota_exhausted', status: 'quota_exhausted', code: 'quota_exhausted' },
  { state: 'model_unavailable', status: 'model_unavailable', code: 'model_unavailable' },
] as const)('a key that is $state', ({ state, status, code }) => {
  test('stops its tenant after one refused call a worker, and nobody else', async () => {
    await system.giveKey('acme', `sk-acme-${state}-1`);
    await system.giveKey('globex', 'sk-globex-works-1');
    system.openai.accounts.setState(`sk-acme-${state}-1`, state);
    await system.addRows([...notes('acme', 100), ...notes('globex', 60), ...notes('hooli', 60)]);
    system.openai.ledger.reset();

    const run = await system.backfill('?batchSize=5');

    expect(run).toMatchObject({
      status: 'incomplete',
      rows: { embedded: 120, failed: 0, quarantined: 0, remaining: 100 },
    });
    expect(run.reason).toContain(`acme: ${code}`);
    const calls = system.openai.ledger.callsBy(`sk-acme-${state}-1`).length;
    expect(calls).toBeGreaterThanOrEqual(1);
    expect(calls).toBeLessThanOrEqual(WORKERS);
    onlyOwnTexts(PLATFORM_KEY, 'hooli');
    onlyOwnTexts('sk-globex-works-1', 'globex');
    expect(wrongRows(await system.rows()).map((row) => row.tenant_id)).toEqual(Array(100).fill('acme'));

    const { body } = await system.call('GET', credentialPath('acme'));
    expect(body).toMatchObject({ status, last4: `${state}-1`.slice(-4) });
    expect(body.reason).toContain(code);
    expect(Date.parse(body.since)).toBeGreaterThan(Date.parse(run.createdAt));
    const parts = await system.listed(run.runId, 'tenants');
    expect(parts.find((part) => part.tenantId === 'acme')).toMatchObject({
      status: 'incomplete',
      rows: { remaining: 100 },
    });
  });

  test('is replaced by a new one, with which a retry completes the tenant', async () => {
    // A tenant that no worker has read a key of before: what they remember of it is the dead key.
    const tenant = `acme ${state}`;
    await system.giveKey(tenant, `sk-acme-${state}-2`);
    system.openai.accounts.setState(`sk-acme-${state}-2`, state);
    await system.addRows([...notes(tenant, 60), ...notes('hooli', 10)]);
    const run = await system.backfill('?batchSize=5');
    expect(run).toMatchObject({ status: 'incomplete', rows: { embedded: 10 } });
    system.openai.ledger.reset();

    await system.giveKey(tenant, `sk-acme-${state}-new`);
    await retry(run.runId);

    expect(await system.settled(run.runId)).toMatchObject({
      status: 'succeeded',
      reason: null,
      rows: { embedded: 70, remaining: 0 },
    });
    expect(wrongRows(await system.rows())).toEqual([]);
    expect(system.openai.ledger.callsBy(PLATFORM_KEY)).toEqual([]);
    expect(system.openai.ledger.callsBy(`sk-acme-${state}-2`).length).toBeLessThanOrEqual(WORKERS);
    onlyOwnTexts(`sk-acme-${state}-new`, tenant);
    expect((await system.call('GET', credentialPath(tenant))).body).toMatchObject({
      status: 'valid',
      reason: null,
    });
  });

  test('shows by a check whether it works again', async () => {
    await system.giveKey('acme', `sk-acme-${state}-3`);
    system.openai.accounts.setState(`sk-acme-${state}-3`, state);

    const dead = await system.call('POST', `${credentialPath('acme')}/check`);
    expect(dead).toMatchObject({ status: 200, body: { status } });
    system.openai.accounts.setState(`sk-acme-${state}-3`, 'ok');
    const alive = await system.call('POST', `${credentialPath('acme')}/check`);
    expect(alive).toMatchObject({ status: 200, body: { status: 'valid', reason: null } });

    const sent = [...system.openai.ledger.textsSentWith(`sk-acme-${state}-3`)];
    expect(sent).toHaveLength(1);
  });
});

describe('a key revoked in the middle of a run', () => {
  test('costs no more refused calls than were under way, and what was paid for stays', async () => {
    await system.giveKey('acme', 'sk-acme-halfway-1');
    await system.addRows([...notes('acme', 200), ...notes('hooli', 20)]);
    system.openai.ledger.reset();
    system.openai.faults.add({ when: { key: 'sk-acme-halfway-1' }, action: { kind: 'delay', delayMs: 30 } });
    const revoke = setInterval(() => {
      if (system.openai.ledger.callsBy('sk-acme-halfway-1').some(({ status }) => status === 200))
        system.openai.accounts.setState('sk-acme-halfway-1', 'revoked');
    }, 1);

    const run = await system.backfill('?batchSize=2').finally(() => clearInterval(revoke));

    expect(run.status).toBe('incomplete');
    expect(run.reason).toContain('acme: key_invalid');
    const slots = WORKERS * 16;
    expect(refusedCalls('sk-acme-halfway-1').length).toBeLessThanOrEqual(slots);
    const paid = system.openai.ledger.callsBy('sk-acme-halfway-1').filter(({ billed }) => billed);
    expect(run.rows.embedded).toBe(20 + paid.flatMap(({ texts }) => texts).length);
    onlyOwnTexts(PLATFORM_KEY, 'hooli');
  });
});

describe('storing a key', () => {
  test('is refused, and stores nothing, when the provider does not know the key', async () => {
    const answer = await put('acme', { apiKey: 'sk-nobody-knows-this' });

    expect(answer).toMatchObject({ status: 422, body: { errors: [{ field: 'apiKey' }] } });
    expect(JSON.stringify(answer.body)).not.toContain('sk-nobody-knows-this');
    expect((await system.call('GET', credentialPath('acme'))).status).toBe(404);
    expect(await system.sql`SELECT 1 FROM infill.tenant_credentials`).toHaveLength(0);
  });

  test('leaves the key before in place when the new one is bad', async () => {
    await system.giveKey('acme', 'sk-acme-first-good');

    expect((await put('acme', { apiKey: 'sk-nobody-knows-this' })).status).toBe(422);

    expect((await system.call('GET', credentialPath('acme'))).body).toMatchObject({
      last4: 'good',
      status: 'valid',
    });
  });

  test('asks nobody with check=false', async () => {
    const answer = await put('acme', { apiKey: 'sk-nobody-knows-this' }, '?check=false');

    expect(answer).toMatchObject({ status: 200, body: { status: 'unchecked', checkedAt: null } });
    expect(system.openai.ledger.entries).toEqual([]);
  });

  test('stores a key whose account has no money left, and says so', async () => {
    system.openai.accounts.put({
      key: 'sk-acme-poor-key',
      organization: 'org-acme',
      state: 'quota_exhausted',
    });

    expect(await put('acme', { apiKey: 'sk-acme-poor-key' })).toMatchObject({
      status: 200,
      body: { status: 'quota_exhausted' },
    });
  });

  test('never answers or stores the key in the clear', async () => {
    await system.giveKey('acme', 'sk-acme-secret-part-wxyz');

    const answers = [
      await system.call('GET', credentialPath('acme')),
      await system.call('GET', '/api/v1/admin/credentials'),
      await system.call('POST', `${credentialPath('acme')}/check`),
    ];
    for (const { body } of answers) {
      expect(JSON.stringify(body)).not.toContain('secret-part');
      expect(JSON.stringify(body)).toContain('"wxyz"');
    }
    const [{ stored }] = await system.sql<[{ stored: string }]>`
      SELECT string_agg(c::text, ' ') AS stored FROM infill.tenant_credentials c`;
    expect(stored).not.toContain('secret-part');
    expect(stored).not.toContain(Buffer.from('secret-part').toString('hex'));
  });

  test.each([
    'http://provider.example/v1',
    'ftp://provider.example/v1',
    'https://user:word@provider.example/v1',
    'https://provider.example/v1?key=1',
    'https://provider.example/v1#part',
    'not a url',
    'file:///etc/passwd',
  ])('refuses the base URL %s', async (baseUrl) => {
    const answer = await put('acme', { apiKey: 'sk-acme-own-key', baseUrl }, '?check=false');

    expect(answer).toMatchObject({ status: 400, body: { errors: [{ field: 'baseUrl' }] } });
    expect(await system.sql`SELECT 1 FROM infill.tenant_credentials`).toHaveLength(0);
  });

  test('takes https anywhere, and the address of the platform', async () => {
    const https = await put(
      'acme',
      { apiKey: 'sk-acme-own-key', baseUrl: 'https://provider.example/v1/' },
      '?check=false',
    );
    const own = await put(
      'globex',
      { apiKey: 'sk-globex-own-key', baseUrl: system.openai.url },
      '?check=false',
    );

    expect(https).toMatchObject({ status: 200, body: { baseUrl: 'https://provider.example/v1' } });
    expect(own.status).toBe(200);
  });

  test('takes nothing that is no key', async () => {
    for (const apiKey of ['', 'sk-with space in it', 'sk-mit-ümlaut-key', `sk-${'x'.repeat(600)}`]) {
      const answer = await put('acme', { apiKey });
      expect(answer, apiKey.slice(0, 20)).toMatchObject({
        status: 400,
        body: { errors: expect.arrayContaining([expect.objectContaining({ field: 'apiKey' })]) },
      });
    }
  });
});

describe('a key and a text', () => {
  test('are never sent on to where a redirect points', async () => {
    const seen: string[] = [];
    const elsewhere = createServer((request, response) => {
      seen.push(`${request.method} ${request.headers.authorization ?? ''}`);
      response.end('{}');
    });
    await new Promise<void>((resolve) => elsewhere.listen(0, '127.0.0.1', resolve));
    const location = `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}/v1/embeddings`;
    await system.giveKey('acme', 'sk-acme-redirected-1');
    await system.addRows([...notes('acme', 10), ...notes('hooli', 10)]);
    for (const status of [301, 302, 307, 308] as const) {
      const when = { key: 'sk-acme-redirected-1' };
      const fault = system.openai.faults.add({ when, action: { kind: 'redirect', status, location } });
      const { body } = await system.call('POST', `${credentialPath('acme')}/check`);
      expect(body, String(status)).toMatchObject({ status: 'invalid' });
      if (status !== 308) system.openai.faults.clear(fault);
    }

    const run = await system.backfill();
    elsewhere.close();

    expect(run).toMatchObject({ status: 'incomplete', rows: { embedded: 10 } });
    expect(run.reason).toContain('acme: redirected');
    expect(seen).toEqual([]);
  });

  test('of a tenant never meet the key of the platform, also when the tenant has a key that cannot be opened', async () => {
    await system.giveKey('acme', 'sk-acme-unreadable-1');
    // Another tenant's sealed key does not open for this one.
    await system.giveKey('globex', 'sk-globex-other-1');
    await system.sql`
      UPDATE infill.tenant_credentials SET sealed_key = (SELECT sealed_key FROM infill.tenant_credentials WHERE tenant_id = 'globex')
       WHERE tenant_id = 'acme'`;
    await system.addRows([...notes('acme', 10), ...notes('globex', 10)]);
    system.openai.ledger.reset();

    const run = await system.backfill();

    expect(run).toMatchObject({ status: 'incomplete', rows: { embedded: 10 } });
    expect(run.reason).toContain('acme: key_unreadable');
    expect(system.openai.ledger.keysByText().has('acme note 1')).toBe(false);
    onlyOwnTexts('sk-globex-other-1', 'globex');
  });
});
