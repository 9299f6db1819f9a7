import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type System, startSystem } from '../support/system.ts';

let system: System;
beforeAll(async () => {
  system = await startSystem();
});
afterAll(() => system.close());
beforeEach(async () => {
  await system.sql`TRUNCATE notes, infill.quarantined_rows`;
  system.openai.setPoison([{ marker: 'poison' }]);
});

test('a run that finds only what earlier runs quarantined says so', async () => {
  await system.addRows([{ tenant: 'acme', text: 'poison' }]);
  await system.backfill();

  const run = await system.backfill();

  expect(run).toMatchObject({
    status: 'incomplete',
    reason: '1 row is quarantined',
    rows: { planned: 0, remaining: 1 },
  });
});

test('what is quarantined of tenants without work is told beside the work that was done', async () => {
  await system.addRows([
    { tenant: 'acme', text: 'poison' },
    { tenant: 'acme', text: 'poison, too' },
    { tenant: 'globex', text: 'poison' },
  ]);
  await system.backfill();
  await system.addRows([{ tenant: 'globex', text: 'a note' }]);

  const run = await system.backfill();

  expect(run).toMatchObject({ status: 'incomplete', rows: { embedded: 1, remaining: 3 } });
  expect(run.reason).toBe('globex: 1 row is quarantined; 2 rows are quarantined');
});
