import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { PLATFORM_KEY, parseVector, type System, startSystem, vectorOf } from '../support/system.ts';

let system: System;

beforeAll(async () => {
  system = await startSystem();
});
afterAll(() => system.close());
beforeEach(async () => {
  await system.sql`TRUNCATE notes, infill.quarantined_rows, infill.tenant_credentials`;
  system.openai.faults.clear();
  system.openai.ledger.reset();
});
afterEach(() => system.openai.setPoison([]));

async function everyRowIsRight(): Promise<void> {
  for (const row of await system.rows()) {
    if (row.content === null || row.content.trim() === '')
      expect(row.embedding, `blank row ${row.id}`).toBeNull();
    else expect(parseVector(row.embedding ?? '[]'), `row ${row.id}`).toEqual(vectorOf(row.content));
  }
}

const texts = (tenant: string, count: number) =>
  Array.from({ length: count }, (_, index) => ({ tenant, text: `${tenant} note ${index}` }));

describe('a run', () => {
  test('fills every missing embedding of every tenant, and says so', async () => {
    await system.addRows([
      ...texts('acme', 120),
      ...texts('globex', 30),
      { tenant: 'acme', text: '  ' },
      { tenant: 'acme', text: null },
    ]);

    const run = await system.backfill('?batchSize=20');

    expect(run).toMatchObject({
      status: 'succeeded',
      progress: 100,
      message: 'Successfully backfilled 150 embeddings.',
      rows: { planned: 150, embedded: 150, superseded: 0, gone: 0, quarantined: 0, failed: 0, remaining: 0 },
      tenants: { total: 2, settled: 2 },
    });
    await everyRowIsRight();
  });

  test('that finds nothing missing succeeds and calls nobody', async () => {
    const run = await system.backfill();

    expect(run).toMatchObject({
      status: 'succeeded',
      message: 'No missing embeddings found.',
      rows: { planned: 0 },
    });
    expect(system.openai.ledger.entries).toEqual([]);
  });

  test('fills the rows of a tenant whose id is empty', async () => {
    await system.addRows([...texts('', 3), ...texts('acme', 2)]);

    expect(await system.backfill()).toMatchObject({
      status: 'succeeded',
      rows: { embedded: 5, remaining: 0 },
    });
    await everyRowIsRight();
  });

  test('as a dry run calls the provider, writes nothing, and lists what it would write', async () => {
    await system.addRows(texts('acme', 25));

    const run = await system.backfill('?dryRun=true&batchSize=10');

    expect(run).toMatchObject({
      status: 'succeeded',
      message: 'Dry run: would backfill 25 embeddings.',
      rows: { embedded: 25, remaining: 25 },
    });
    expect((await system.rows()).every((row) => row.embedding === null)).toBe(true);
    expect(system.openai.ledger.entries.length).toBeGreaterThan(0);
    const { body } = await system.call(
      'GET',
      `/api/v1/admin/backfill-embeddings/${run.runId}/rows?limit=1000`,
    );
    expect(body.items).toHaveLength(25);
    expect(new Set(body.items.map((row: { outcome: string }) => row.outcome))).toEqual(
      new Set(['would_embed']),
    );
  });

  test('works on no more rows than its limit, shared out among the tenants', async () => {
    await system.addRows([...texts('acme', 40), ...texts('globex', 5)]);

    const run = await system.backfill('?limit=20&batchSize=7');

    expect(run).toMatchObject({ status: 'incomplete', rows: { planned: 20, embedded: 20, remaining: 25 } });
    expect(run.reason).toContain("over the run's limit");
  });

  test('works only on the tenants that were named', async () => {
    await system.addRows([...texts('acme', 5), ...texts('globex', 5), ...texts('hooli', 5)]);

    const run = await system.backfill('?tenantId=acme&tenantId=hooli');

    expect(run).toMatchObject({ status: 'succeeded', rows: { embedded: 10 } });
    expect((await system.rows()).filter((row) => row.embedding === null).map((row) => row.tenant_id)).toEqual(
      Array(5).fill('globex'),
    );
  });

  test('sends each text once, also when rows share it', async () => {
    await system.addRows(
      Array.from({ length: 12 }, (_, index) => ({ tenant: 'acme', text: `same ${index % 3}` })),
    );

    await system.backfill();

    expect(system.openai.ledger.entries.flatMap((entry) => entry.texts ?? [])).toHaveLength(3);
    await everyRowIsRight();
  });

  test('quarantines a poisoned row alone, and does not send it again until its text changes', async () => {
    await system.addRows([...texts('acme', 49), { tenant: 'acme', text: 'POISON pill' }]);
    system.openai.setPoison([{ marker: 'POISON' }]);

    const first = await system.backfill();
    expect(first).toMatchObject({ status: 'incomplete', rows: { embedded: 49, quarantined: 1, failed: 0 } });

    system.openai.ledger.reset();
    const second = await system.backfill();
    expect(second.rows).toMatchObject({ planned: 0, embedded: 0 });
    expect(system.openai.ledger.entries).toEqual([]);

    await system.sql`UPDATE notes SET content = 'an antidote' WHERE content LIKE 'POISON%'`;
    expect(await system.backfill()).toMatchObject({ status: 'succeeded', rows: { embedded: 1 } });
    await everyRowIsRight();
  });

  test('uses the key of the platform only for tenants without one of their own', async () => {
    system.openai.accounts.put({ key: 'sk-acme-own-key', organization: 'org-acme' });
    const put = await system.call('PUT', '/api/v1/admin/tenants/acme/credential', {
      body: JSON.stringify({ apiKey: 'sk-acme-own-key' }),
      headers: { 'content-type': 'application/json' },
    });
    expect(put).toMatchObject({ status: 200, body: { tenantId: 'acme', last4: '-key', status: 'valid' } });
    await system.addRows([...texts('acme', 30), ...texts('globex', 30)]);
    system.openai.ledger.reset();

    await system.backfill();

    expect(
      [...system.openai.ledger.textsSentWith('sk-acme-own-key')].every((text) => text.startsWith('acme')),
    ).toBe(true);
    expect(
      [...system.openai.ledger.textsSentWith(PLATFORM_KEY)].every((text) => text.startsWith('globex')),
    ).toBe(true);
    await everyRowIsRight();
  });
});
