import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { jsonBody, type System, startSystem } from '../support/system.ts';

let system: System;
const WORKERS = 2;
const TENANTS = ['acme', 'globex', 'hooli'];

beforeAll(async () => {
  system = await startSystem({ workers: WORKERS });
});
afterAll(() => system?.close());
beforeEach(async () => {
  await system.sql`TRUNCATE notes, infill.tenant_credentials`;
});

/** What is known of each tenant's key. */
async function statuses(): Promise<Record<string, string>> {
  const { body } = await system.call('GET', '/api/v1/admin/credentials');
  return Object.fromEntries(
    body.items.map(({ tenantId, status }: { tenantId: string; status: string }) => [tenantId, status]),
  );
}

describe('a key that several tenants have stored', () => {
  test.each([
    { state: 'ok', status: 'valid' },
    { state: 'revoked', status: 'invalid' },
    { state: 'quota_exhausted', status: 'quota_exhausted' },
  ] as const)(
    'is $status for each of them after a run, whoever found that out',
    async ({ state, status }) => {
      const apiKey = `sk-shared-${state}-1`;
      system.openai.accounts.put({ key: apiKey, organization: 'org-shared', state });
      for (const tenant of TENANTS) {
        const path = `/api/v1/admin/tenants/${tenant}/credential?check=false`;
        expect((await system.call('PUT', path, jsonBody({ apiKey }))).body).toMatchObject({
          status: 'unchecked',
        });
        await system.addRows(
          Array.from({ length: 20 }, (_, index) => ({ tenant, text: `${tenant} ${index}` })),
        );
      }

      await system.backfill('?batchSize=5');

      expect(await statuses()).toEqual(Object.fromEntries(TENANTS.map((tenant) => [tenant, status])));
      const refused = system.openai.ledger.callsBy(apiKey).filter((call) => call.status !== 200);
      expect(refused.length).toBeLessThanOrEqual(WORKERS);
    },
  );
});
