import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { jsonBody, type System, startSystem, until } from '../support/system.ts';

let system: System;
const ADMIN = '/api/v1/admin';
const budgetOf = (tenant: string) => `${ADMIN}/tenants/${tenant}/budget`;

beforeAll(async () => {
  system = await startSystem({ workers: 1 });
});
afterAll(() => system?.close());
beforeEach(async () => {
  // A run that followed by itself in the test before is to be over.
  await until(
    async () =>
      (
        await system.sql`SELECT 1 FROM infill.runs WHERE settled_at IS NULL UNION ALL SELECT 1 FROM infill.run_requests WHERE status = 'waiting'`
      ).length === 0,
    'nothing is at work',
  );
  await system.sql`
    TRUNCATE notes, infill.runs, infill.run_tenants, infill.run_batches, infill.tenant_budgets, infill.usage_ledger, infill.budget_stops, infill.run_requests CASCADE`;
});

const texts = (count: number, tenant = 'acme') =>
  Array.from({ length: count }, (_, index) => ({ tenant, text: `note number ${index} of many words` }));
const filled = async () => (await system.rows()).filter(({ embedding }) => embedding !== null).length;

describe('a budget', () => {
  test('is set, shown with what the month has used, and removed', async () => {
    const put = await system.call('PUT', budgetOf('acme'), jsonBody({ maxTokens: 1000, maxCostUsd: 2.5 }));

    expect(put).toMatchObject({
      status: 200,
      body: { tenantId: 'acme', maxTokens: 1000, maxCostUsd: 2.5, tokens: 0, costUsd: 0, status: 'open' },
    });
    expect(put.body.month).toBe(new Date().toISOString().slice(0, 7));
    expect((await system.call('GET', budgetOf('acme'))).body).toEqual(put.body);
    expect((await system.call('DELETE', budgetOf('acme'))).status).toBe(204);
    expect((await system.call('DELETE', budgetOf('acme'))).status).toBe(204);
    expect((await system.call('GET', budgetOf('acme'))).status).toBe(404);
  });

  test.each([
    [{}],
    [{ maxTokens: null, maxCostUsd: null }],
    [{ maxTokens: 0 }],
    [{ maxTokens: 1.5 }],
    [{ maxTokens: '100' }],
    [{ maxCostUsd: -1 }],
    [{ maxTokens: 100, monthly: true }],
  ])('is refused, and changes nothing, as %j', async (body) => {
    const put = await system.call('PUT', budgetOf('acme'), jsonBody(body));

    expect(put.status).toBe(400);
    expect(put.body.errors.length).toBeGreaterThan(0);
    expect((await system.call('GET', budgetOf('acme'))).status).toBe(404);
  });

  test('stops its tenant and no other, with a reason; a higher cap lets it go on by itself', async () => {
    await system.addRows([...texts(60), ...texts(20, 'globex')]);
    await system.call('PUT', budgetOf('acme'), jsonBody({ maxTokens: 100 }));

    const run = await system.backfill('?batchSize=5');

    expect(run.status).toBe('incomplete');
    expect(run.reason).toMatch(/acme: budget_reached: \d+ of 100 tokens of \d{4}-\d\d are spent/);
    const shown = (await system.call('GET', budgetOf('acme'))).body;
    expect(shown.status).toBe('reached');
    expect(shown.tokens).toBeGreaterThanOrEqual(100);
    // One batch at most, and less by the estimate once something is known.
    expect(shown.tokens).toBeLessThan(150);
    const before = await filled();
    expect(before).toBeGreaterThan(20);
    expect(before).toBeLessThan(80);

    await system.call('PUT', budgetOf('acme'), jsonBody({ maxTokens: 100_000 }));
    await until(async () => (await filled()) === 80, 'the rest is filled');
  });

  test('lets its tenant go on in the next month', async () => {
    await system.addRows(texts(40));
    await system.call('PUT', budgetOf('acme'), jsonBody({ maxTokens: 60 }));
    expect((await system.backfill('?batchSize=5')).reason).toContain('budget_reached');

    await system.sql`UPDATE infill.usage_ledger SET month = month - interval '1 month'`;
    const before = await filled();
    await until(async () => (await filled()) > before, 'more is filled');
  });

  test('in dollars holds, too', async () => {
    await system.addRows(texts(40));
    // 100 tokens of text-embedding-3-small.
    await system.call('PUT', budgetOf('acme'), jsonBody({ maxCostUsd: 0.000002 }));

    const run = await system.backfill('?batchSize=5');

    expect(run.reason).toMatch(/budget_reached: \$0\.0000 of \$0\.000002 of/);
    expect(await filled()).toBeLessThan(40);
  });
});

describe('the ledger', () => {
  test('has what was spent, by tenant and target, and outlives the runs', async () => {
    await system.addRows([...texts(7), ...texts(3, 'globex')]);
    const run = await system.backfill();
    await system.sql`DELETE FROM infill.runs`;

    const { body } = await system.call('GET', `${ADMIN}/usage`);

    expect(body.items).toMatchObject([
      { tenantId: 'acme', target: 'notes', rows: 7, month: body.month, budget: null },
      { tenantId: 'globex', target: 'notes', rows: 3 },
    ]);
    expect(body.totals).toMatchObject({ tokens: run.tokens, requests: run.requests, rows: 10 });
    expect(body.totals.costUsd).toBeCloseTo(run.costUsd, 12);
  });

  test('is read by month, tenant and page', async () => {
    await system.addRows([...texts(2), ...texts(2, 'globex')]);
    await system.backfill();

    const first = await system.call('GET', `${ADMIN}/usage?limit=1`);
    const second = await system.call('GET', `${ADMIN}/usage?limit=1&cursor=${first.body.nextCursor}`);
    const one = await system.call('GET', `${ADMIN}/usage?tenantId=globex`);
    const past = await system.call('GET', `${ADMIN}/usage?month=2020-01`);
    const wrong = await system.call('GET', `${ADMIN}/usage?month=2020-13`);

    expect(first.body.items).toMatchObject([{ tenantId: 'acme' }]);
    expect(second.body).toMatchObject({ items: [{ tenantId: 'globex' }], nextCursor: null });
    expect(one.body.items).toMatchObject([{ tenantId: 'globex' }]);
    expect(past.body).toMatchObject({ month: '2020-01', items: [], totals: { tokens: 0, costUsd: null } });
    expect(wrong.status).toBe(400);
  });
});
