import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { jsonBody, type System, startSystem, until, wrongRows } from '../support/system.ts';

let system: System;

beforeAll(async () => {
  system = await startSystem({ gated: true, proxied: true });
});
afterAll(() => system?.close());
beforeEach(async () => {
  await system.sql`TRUNCATE notes, infill.tenant_credentials`;
  system.openai.ledger.reset();
});
afterEach(() => Promise.all([system.proxies.postgres.restore(), system.proxies.redis.restore()]));

const texts = (count: number) =>
  Array.from({ length: count }, (_, index) => ({ tenant: 'acme', text: `paid ${index}.` }));

async function start(): Promise<string> {
  const { status, body } = await system.call('POST', '/api/v1/admin/backfill-embeddings');
  expect(status).toBe(202);
  return body.runId;
}

test('an answer that is paid for reaches Postgres while Redis is silent', async () => {
  await system.addRows(texts(5));
  system.gate.onAnswerTo('paid 3.', async () => system.proxies.redis.freeze());
  const runId = await start();

  const areRight = async () => wrongRows(await system.rows()).length === 0;
  await until(areRight, 'the rows are written', undefined, 20_000);

  await system.proxies.redis.restore();
  expect(await system.settled(runId)).toMatchObject({ status: 'succeeded', rows: { embedded: 5 } });
  expect(system.openai.ledger.entries.filter((entry) => entry.billed)).toHaveLength(1);
});

test("the first answer with a tenant's key is kept until Postgres is back", async () => {
  await system.addRows(texts(5));
  system.openai.accounts.put({ key: 'sk-acme-own-0001', organization: 'org-acme' });
  const path = '/api/v1/admin/tenants/acme/credential?check=false';
  await system.call('PUT', path, jsonBody({ apiKey: 'sk-acme-own-0001' }));
  system.gate.onAnswerTo('paid 3.', async () => {
    await system.proxies.postgres.cut();
    setTimeout(() => void system.proxies.postgres.restore(), 3_000);
  });

  const run = await system.settled(await start());

  expect(run).toMatchObject({ status: 'succeeded', rows: { embedded: 5 } });
  expect(system.openai.ledger.entries.filter((entry) => entry.billed)).toHaveLength(1);
});
