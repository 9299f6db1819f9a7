import { afterAll, beforeAll, expect, test } from 'vitest';
import { PLATFORM_KEY, type System, startSystem, wrongRows } from '../support/system.ts';

let system: System;

beforeAll(async () => {
  system = await startSystem({
    openai: {
      // A request each 2 s, and never two at once.
      keys: [{ key: PLATFORM_KEY, organization: 'org-slow', requestsPerMinute: 30, burstSeconds: 2 }],
      poison: [{ marker: 'POISON' }],
    },
  });
});
afterAll(() => system?.close());

test('a row that the provider refuses is found on an account of few requests a minute, too', async () => {
  const texts = ['one', 'two', 'POISON', 'four'];
  await system.addRows(texts.map((text) => ({ tenant: 'acme', text })));

  const run = await system.backfill();

  expect(run).toMatchObject({ status: 'incomplete', rows: { embedded: 3, quarantined: 1, failed: 0 } });
  expect(wrongRows(await system.rows()).map(({ content }) => content)).toEqual(['POISON']);
  // Halves and the row alone, then the plain word that clears the request of blame at most.
  expect(system.openai.ledger.entries.length).toBeLessThanOrEqual(8);
}, 90_000);
