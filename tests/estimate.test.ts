import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { jsonBody, type System, startSystem } from './support/system.ts';

const API = '/api/v1/admin';

let system: System;

beforeAll(async () => {
  system = await startSystem({ workers: 0 });
});
afterAll(() => system.close());
beforeEach(async () => {
  await system.sql`TRUNCATE notes, infill.tenant_credentials, infill.audit_events`;
});

describe('a stored credential', () => {
  const put = async (body: object) =>
    (await system.call('PUT', `${API}/tenants/acme/credential?check=false`, jsonBody(body))).body;

  test.each([
    ['k', ''],
    ['1234567', ''],
    ['12345678', '5678'],
  ])('of the key %s shows %j of it', async (apiKey, last4) => {
    expect(await put({ apiKey })).toMatchObject({ last4 });
  });

  test.each([
    ['https://API.Example.org:443/v1/', 'https://api.example.org/v1'],
    ['https://example.org', 'https://example.org'],
    ['https://example.org/a b/', 'https://example.org/a%20b'],
  ])('holds the address %s in its one spelling', async (baseUrl, stored) => {
    expect(await put({ apiKey: 'sk-key-of-acme', baseUrl })).toMatchObject({ baseUrl: stored });
  });

  test('has no address that ends in an empty query', async () => {
    expect(await put({ apiKey: 'sk-key-of-acme', baseUrl: 'https://example.org/v1?' })).toMatchObject({
      status: 400,
    });
  });
});

describe('the time of an estimate', () => {
  test('is the one that the credential of the tenant allows, and tier 1 where there is no limit', async () => {
    const text = 'x'.repeat(480);
    for (const tenant of ['capped', 'few-requests', 'plain'])
      await system.addRows(Array.from({ length: 100 }, () => ({ tenant, text })));
    await limit('capped', { tokensPerMinute: 1_000 });
    await limit('few-requests', { requestsPerMinute: 1 });

    const { body } = await system.call('GET', `${API}/estimate?target=notes`);

    const tier1 = { requestsPerMinute: 3_000, tokensPerMinute: 1_000_000 };
    const capped = { from: 'credential', ...tier1, tokensPerMinute: 1_000 };
    const of = (tenantId: string) =>
      body.tenants.find((part: { tenantId: string }) => part.tenantId === tenantId);
    // 48,000 bytes: at least 10,000 tokens.
    expect(of('capped')).toMatchObject({ seconds: { low: 600 }, limits: capped });
    // 100 rows are two requests.
    expect(of('few-requests')).toMatchObject({
      seconds: { low: 120, high: 120 },
      limits: { from: 'credential', ...tier1, requestsPerMinute: 1 },
    });
    expect(of('plain')).toMatchObject({ seconds: { low: 1 }, limits: { from: 'tier_1', ...tier1 } });
    expect(body).toMatchObject({ rows: 300, seconds: of('capped').seconds, limits: capped });
  });

  test('adds up the tenants that share the key of the platform', async () => {
    const text = 'x'.repeat(4_800);
    for (const tenant of ['a', 'b'])
      await system.addRows(Array.from({ length: 100 }, () => ({ tenant, text })));

    const { body } = await system.call('GET', `${API}/estimate?target=notes`);

    // 100,000 tokens a tenant at least.
    expect(body.tenants.map((part: { seconds: { low: number } }) => part.seconds.low)).toEqual([6, 6]);
    expect(body).toMatchObject({ seconds: { low: 12 }, limits: { from: 'tier_1' } });
  });
});

async function limit(tenant: string, limits: object): Promise<void> {
  const body = { apiKey: 'sk-key-of-a-tenant', ...limits };
  await system.call('PUT', `${API}/tenants/${tenant}/credential?check=false`, jsonBody(body));
}
