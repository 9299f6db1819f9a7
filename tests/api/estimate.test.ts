import { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { ProviderLimits } from '../../src/core/provider-limits.ts';
import { fingerprintOf } from '../../src/credentials/seal.ts';
import { createPacer } from '../../src/pacing/pacer.ts';
import { credentialOf, NO_LIMITS } from '../support/pacing.ts';
import {
  type Json,
  jsonBody,
  MODEL,
  PLATFORM_KEY,
  type System,
  startSystem,
  until,
} from '../support/system.ts';

const API = '/api/v1/admin';
const TENANT_KEY = 'sk-key-of-a-tenant';

/** What an account may use of tier 1 before its answers have told its limits. */
const START = { requestsPerMinute: 1_500, tokensPerMinute: 500_000 };

let system: System;
let redis: Redis;

beforeAll(async () => {
  system = await startSystem({ workers: 0, proxied: true, env: { PACING_START_FRACTION: '0.5' } });
  redis = new Redis(system.redisUrl);
});
afterAll(async () => {
  redis.disconnect();
  await system.close();
});
beforeEach(async () => {
  await system.sql`TRUNCATE notes, infill.tenant_credentials, infill.audit_events`;
  await redis.flushdb();
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
  test('is the one that the credential of the tenant allows, and the start in tier 1 where nothing is known', async () => {
    const text = 'x'.repeat(480);
    for (const tenant of ['capped', 'few-requests', 'plain'])
      await system.addRows(Array.from({ length: 100 }, () => ({ tenant, text })));
    await limit('capped', { tokensPerMinute: 1_000 });
    await limit('few-requests', { requestsPerMinute: 1 });

    const { body } = await system.call('GET', `${API}/estimate?target=notes`);

    const capped = { from: 'credential', ...START, tokensPerMinute: 1_000 };
    const of = (tenantId: string) => partOf(body, tenantId);
    // 48,000 bytes: at least 10,000 tokens.
    expect(of('capped')).toMatchObject({ seconds: { low: 600 }, limits: capped });
    // 100 rows are two requests.
    expect(of('few-requests')).toMatchObject({
      seconds: { low: 120, high: 120 },
      limits: { from: 'credential', ...START, requestsPerMinute: 1 },
    });
    expect(of('plain')).toMatchObject({ seconds: { low: 2 }, limits: { from: 'tier_1', ...START } });
    expect(body).toMatchObject({ rows: 300, seconds: of('capped').seconds, limits: capped });
  });

  test('adds up the tenants that share the key of the platform', async () => {
    const text = 'x'.repeat(4_800);
    for (const tenant of ['a', 'b'])
      await system.addRows(Array.from({ length: 100 }, () => ({ tenant, text })));

    const { body } = await system.call('GET', `${API}/estimate?target=notes`);

    // 100,000 tokens a tenant at least.
    expect(body.tenants.map((part: { seconds: { low: number } }) => part.seconds.low)).toEqual([12, 12]);
    expect(body).toMatchObject({ seconds: { low: 24 }, limits: { from: 'tier_1' } });
  });

  test("is by what the provider's answers have told of a key, and never by more than is set for it", async () => {
    const text = 'x'.repeat(480);
    for (const tenant of ['told', 'capped', 'plain'])
      await system.addRows(Array.from({ length: 100 }, () => ({ tenant, text })));
    await limit('told', {});
    await limit('capped', { requestsPerMinute: 30, tokensPerMinute: 100_000 });
    await hearLimits(TENANT_KEY, { requestsLimit: 60, tokensLimit: 6_000 });
    await hearLimits(PLATFORM_KEY, { requestsLimit: 90, tokensLimit: null });

    const { body } = await system.call('GET', `${API}/estimate?target=notes`);

    // At least 10,000 tokens, in two requests.
    expect(partOf(body, 'told')).toMatchObject({
      seconds: { low: 100 },
      limits: { from: 'provider', requestsPerMinute: 60, tokensPerMinute: 6_000 },
    });
    expect(partOf(body, 'capped')).toMatchObject({
      seconds: { low: 100 },
      limits: { from: 'credential', requestsPerMinute: 30, tokensPerMinute: 6_000 },
    });
    expect(partOf(body, 'plain')).toMatchObject({
      limits: { from: 'provider', requestsPerMinute: 90, tokensPerMinute: START.tokensPerMinute },
    });
    expect(system.openai.ledger.entries).toEqual([]);
  });

  test.each(['cut', 'freeze'] as const)(
    'is told without Redis, as if nothing was learned: %s',
    async (how) => {
      await system.addRows([{ tenant: 'plain', text: 'a note' }]);
      await hearLimits(PLATFORM_KEY, { requestsLimit: 90, tokensLimit: 6_000 });
      await system.proxies.redis[how]();

      const answer = await system.call('GET', `${API}/estimate?target=notes`);

      await system.proxies.redis.restore();
      expect(answer).toMatchObject({ status: 200, body: { rows: 1, limits: { from: 'tier_1', ...START } } });
      await until(async () => (await system.call('GET', '/readyz')).status === 200, 'Redis is back');
    },
  );
});

const partOf = (body: Json, tenantId: string) =>
  body.tenants.find((part: { tenantId: string }) => part.tenantId === tenantId);

/** Lets a worker have heard an answer that told the limits of a key. */
async function hearLimits(apiKey: string, told: Partial<ProviderLimits>): Promise<void> {
  const pacer = createPacer(redis);
  const baseUrl = system.env.OPENAI_BASE_URL ?? '';
  const credential = credentialOf(fingerprintOf(apiKey), { baseUrl });
  const reservation = await pacer.reserve(credential, MODEL, { inputs: 1, bytes: 3 });
  if (!reservation.go) throw new Error('an account that is new has a place');
  await pacer.settled(reservation, { tokens: 1, limits: { ...NO_LIMITS, ...told }, organization: null });
}

async function limit(tenant: string, limits: object): Promise<void> {
  const body = { apiKey: TENANT_KEY, ...limits };
  await system.call('PUT', `${API}/tenants/${tenant}/credential?check=false`, jsonBody(body));
}
