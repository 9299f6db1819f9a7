import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Json, type System, startSystem } from '../support/system.ts';

const PATH = '/api/v1/admin/backfill-embeddings';

let system: System;

beforeAll(async () => {
  system = await startSystem({ workers: 0 });
});
afterAll(() => system.close());
beforeEach(async () => {
  await system.sql`TRUNCATE infill.runs, infill.run_tenants, infill.run_batches CASCADE`;
});

describe('a list is handed out in pages,', () => {
  test('runs the newest first, each once, also those of the same instant', async () => {
    await seedRuns(23);
    const wanted = await system.sql`SELECT run_id FROM infill.runs ORDER BY created_at DESC, run_id DESC`;

    for (const limit of [1, 4, 23, 100]) {
      const seen = await walk(PATH, limit);
      expect(
        seen.map(({ runId }) => runId),
        `pages of ${limit}`,
      ).toEqual(wanted.map(({ run_id }) => run_id));
    }
  });

  test('tenants by their id, each once, whatever their names', async () => {
    const [runId] = await seedRuns(1);
    const names = [
      'b',
      'a',
      'a b',
      'Zürich',
      'zebra',
      '日本',
      '😀',
      'a"; --',
      "o'neil",
      '%',
      '',
      '10',
      '9',
    ].filter(Boolean);
    await system.sql`INSERT INTO infill.run_tenants (run_id, tenant_id, status) SELECT ${runId ?? ''}, unnest(${names}::text[]), 'succeeded'`;

    for (const limit of [1, 5, 100]) {
      const seen = await walk(`${PATH}/${runId}/tenants`, limit);
      expect(seen.map(({ tenantId }) => tenantId).sort(), `pages of ${limit}`).toEqual(names.toSorted());
    }
  });

  test('rows with what became of each, across batches and generations, each once', async () => {
    const [runId = ''] = await seedRuns(1);
    await seedBatches(runId);
    const wanted = [
      'a 1 embedded',
      'a 2 embedded',
      'a 3 superseded',
      'a 4 gone',
      'a 3 embedded',
      'a 6 failed',
      'b 7 quarantined',
      'b 8 embedded',
    ];

    for (const limit of [1, 2, 3, 100]) {
      const seen = await walk(`${PATH}/${runId}/rows`, limit);
      expect(
        seen.map(({ tenantId, rowId, outcome }) => `${tenantId} ${rowId} ${outcome}`),
        `pages of ${limit}`,
      ).toEqual(wanted);
    }
    const failed = await walk(`${PATH}/${runId}/rows?outcome=failed`, 1);
    expect(failed).toEqual([{ tenantId: 'a', rowId: '6', outcome: 'failed', reason: 'timed_out' }]);
  });

  test('that is empty for a run that has done nothing', async () => {
    const [runId] = await seedRuns(1);

    expect((await system.call('GET', `${PATH}/${runId}/rows`)).body).toEqual({ items: [], nextCursor: null });
    expect((await system.call('GET', `${PATH}/${runId}/tenants`)).body).toEqual({
      items: [],
      nextCursor: null,
    });
  });

  test('a cursor of one list is no cursor of another', async () => {
    await seedRuns(2);
    const { body } = await system.call('GET', `${PATH}?limit=1`);

    const answer = await system.call('GET', `${PATH}/${body.items[0].runId}/rows?cursor=${body.nextCursor}`);

    expect(answer).toMatchObject({ status: 400, body: { errors: [{ field: 'cursor' }] } });
  });
});

async function walk(path: string, limit: number): Promise<Json[]> {
  const items: Json[] = [];
  let cursor = '';
  do {
    const { status, body } = await system.call(
      'GET',
      `${path}${path.includes('?') ? '&' : '?'}limit=${limit}${cursor}`,
    );
    expect(status).toBe(200);
    expect(body.items.length).toBeLessThanOrEqual(limit);
    items.push(...body.items);
    cursor = body.nextCursor === null ? '' : `&cursor=${body.nextCursor}`;
  } while (cursor !== '');
  return items;
}

/** Settled runs, three of each instant. */
async function seedRuns(count: number): Promise<string[]> {
  const rows = await system.sql<{ run_id: string }[]>`
    INSERT INTO infill.runs (run_id, target, status, dry_run, batch_size, created_at, settled_at)
    SELECT gen_random_uuid(), 'notes', 'incomplete', false, 50, timestamptz '2026-01-01' + (n / 3) * interval '1 microsecond', now()
      FROM generate_series(1, ${count}) AS n RETURNING run_id`;
  return rows.map(({ run_id }) => run_id);
}

async function seedBatches(runId: string): Promise<void> {
  await system.sql`INSERT INTO infill.run_tenants (run_id, tenant_id, status, generation) VALUES (${runId}, 'a', 'incomplete', 2), (${runId}, 'b', 'incomplete', 1)`;
  await system.sql`
    INSERT INTO infill.run_batches (run_id, tenant_id, generation, sequence, through_id, embedded_ids, superseded_ids, gone_ids, quarantined_ids, failed_ids, reason)
    VALUES (${runId}, 'a', 1, 1, '5', '{1,2}', '{3}', '{4}', '{}', '{5,6}', 'timed_out'),
           (${runId}, 'a', 2, 1, '6', '{3}', '{}', '{}', '{}', '{6}', 'timed_out'),
           (${runId}, 'b', 1, 1, '8', '{}', '{}', '{}', '{7}', '{}', NULL),
           (${runId}, 'b', 1, 2, '9', '{8}', '{}', '{}', '{}', '{}', NULL)`;
}
