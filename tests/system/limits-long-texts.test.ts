import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type System, startSystem } from '../support/system.ts';

let system: System;

beforeAll(async () => {
  system = await startSystem({
    targets: {
      cut_notes: {
        table: 'notes',
        id: 'id',
        tenant: 'tenant_id',
        text: ['content'],
        embedding: 'embedding',
        model: 'text-embedding-3-small',
        dimensions: 8,
        onTooLong: 'truncate',
      },
    },
  });
});
afterAll(() => system?.close());
beforeEach(async () => {
  await system.sql`TRUNCATE notes, infill.quarantined_rows`;
  system.openai.ledger.reset();
});

describe('a text of more tokens than the model takes', () => {
  const plain = Array.from({ length: 5 }, (_, index) => ({ tenant: 'acme', text: `plain note ${index}` }));
  /** 9,000 tokens by the tokeniser and by the provider's estimate. */
  const tooLong = Array.from({ length: 9_000 }, (_, index) => ['red', 'sea', 'sky'][index % 3]).join(' ');

  test('is quarantined without being sent', async () => {
    await system.addRows([...plain, { tenant: 'acme', text: tooLong }]);

    const run = await system.backfill();

    expect(run).toMatchObject({ status: 'incomplete', rows: { embedded: 5, quarantined: 1 } });
    const { body } = await system.call('GET', '/api/v1/admin/quarantine');
    expect(body.items).toMatchObject([{ code: 'input_too_long', message: null }]);
    expect(system.openai.ledger.entries).toHaveLength(1);
    expect(system.openai.ledger.entries[0]?.status).toBe(200);
  });

  test('is cut on a token border where the target says so, and marked as cut', async () => {
    await system.addRows([...plain, { tenant: 'acme', text: tooLong }]);

    const run = await system.backfill('?target=cut_notes');

    expect(run).toMatchObject({ status: 'succeeded', rows: { embedded: 6, quarantined: 0, remaining: 0 } });
    const sent = system.openai.ledger.entries
      .flatMap((entry) => entry.texts)
      .find((text) => text.startsWith('red'));
    expect(sent?.length).toBeLessThan(tooLong.length);
    expect(tooLong.startsWith(sent ?? 'nothing was sent')).toBe(true);
    const [{ truncated }] = await system.sql<[{ truncated: string[] }]>`
      SELECT truncated_ids AS truncated FROM infill.run_batches WHERE run_id = ${run.runId} AND cardinality(truncated_ids) > 0`;
    const [{ id }] = await system.sql<
      [{ id: string }]
    >`SELECT id::text FROM notes WHERE length(content) > 10000`;
    expect(truncated).toEqual([id]);
  });
});
