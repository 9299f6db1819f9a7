import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Json, parseVector, type System, startSystem, vectorOf } from '../support/system.ts';
import { KINDS, TABLES } from '../support/table-kinds.ts';

let system: System;

beforeAll(async () => {
  system = await startSystem({ targets: KINDS });
  await system.sql.unsafe(TABLES);
});
afterAll(() => system.close());

async function fill(name: string, query = ''): Promise<Json> {
  return system.backfill(`?target=${name}&batchSize=2${query}`);
}

async function embeddedTexts(table: string): Promise<string[]> {
  const rows = await system.sql.unsafe(
    `SELECT content::text AS text, embedding::text AS vector FROM ${table} ORDER BY 1`,
  );
  const filled = rows.filter(({ vector }) => vector !== null);
  for (const { text, vector } of filled) expect(parseVector(vector), text).toEqual(vectorOf(text));
  return filled.map(({ text }) => text);
}

const ROWS = "(1, 'acme', 'one'), (2, 'acme', 'two'), (3, 'globex', 'three')";
const ALL = { status: 'succeeded', rows: { planned: 3, embedded: 3, remaining: 0 } };

describe('a table is filled', () => {
  test('whose ids and tenants are smallint', async () => {
    await system.sql`INSERT INTO small VALUES (1, 7, 'one'), (2, 7, 'two'), (-3, 8, 'three')`;

    expect(await fill('small', '&tenantId=07&tenantId=8')).toMatchObject(ALL);
    expect(await embeddedTexts('small')).toEqual(['one', 'three', 'two']);
    const tooLarge = await system.call(
      'POST',
      '/api/v1/admin/backfill-embeddings?target=small&tenantId=40000',
    );
    expect(tooLarge.status).toBe(400);
  });

  test('whose ids, tenants and texts are citext: the spellings of a tenant are one tenant', async () => {
    await system.sql`INSERT INTO texted VALUES ('A', 'Acme', 'one'), ('b', 'acme', 'two'), ('C', 'ACME', 'three')`;

    const run = await fill('texted');

    expect(run).toMatchObject({ ...ALL, tenants: { total: 1 } });
    expect((await system.listed(run.runId, 'tenants')).map(({ tenantId }) => tenantId)).toEqual(['acme']);
    expect(await embeddedTexts('texted')).toEqual(['one', 'three', 'two']);
  });

  test('whose ids, tenants and texts are char(n)', async () => {
    await system.sql.unsafe(`INSERT INTO padded VALUES ${ROWS.replaceAll(/\((\d)/g, "('$1'")}`);

    expect(await fill('padded')).toMatchObject(ALL);
    expect(await embeddedTexts('padded')).toEqual(['one', 'three', 'two']);
  });

  test('whose id and embedding are of domains over domains', async () => {
    await system.sql.unsafe(`INSERT INTO domains VALUES ${ROWS}`);

    expect(await fill('domains')).toMatchObject(ALL);
    expect(await embeddedTexts('domains')).toEqual(['one', 'three', 'two']);
  });

  test('whose embedding is halfvec: its numbers are those of the answer, rounded to 16 bits', async () => {
    await system.sql.unsafe(`INSERT INTO halves VALUES ${ROWS}`);

    expect(await fill('halves')).toMatchObject(ALL);
    const rows = await system.sql`SELECT content, embedding::text AS vector FROM halves ORDER BY id`;
    for (const { content, vector } of rows)
      expect([...new Float16Array(parseVector(vector))]).toEqual([...new Float16Array(vectorOf(content))]);
  });

  test.each([
    ['quoted', '"My Schema"."a.b"'],
    ['named', '"My Schema"."Named.Parts"'],
    ['folded', 'folded'],
  ])('whose name SQL reads in another way than it is written: %s', async (name, table) => {
    await system.sql.unsafe(`INSERT INTO ${table} VALUES ${ROWS}`);

    expect(await fill(name)).toMatchObject(ALL);
    expect(await embeddedTexts(table)).toEqual(['one', 'three', 'two']);
  });

  test('through a view that can be updated, by itself or by a trigger', async () => {
    await system.sql.unsafe(`INSERT INTO behind VALUES ${ROWS}, (101, 'acme', 'four')`);

    expect(await fill('through_view')).toMatchObject(ALL);
    expect(await embeddedTexts('behind')).toEqual(['one', 'three', 'two']);
    expect(await fill('through_trigger')).toMatchObject({ status: 'succeeded', rows: { embedded: 1 } });
    expect(await embeddedTexts('behind')).toEqual(['four', 'one', 'three', 'two']);
  });

  test('where its condition holds, and nothing else of it is sent or counted', async () => {
    await system.sql`
      INSERT INTO drafts VALUES (1, 'acme', 'live', NULL, NULL, 'published; --'), (2, 'acme', 'draft', NULL, NULL, 'draft'),
             (3, 'acme', 'deleted', NULL, now(), 'published; --'), (4, 'globex', 'undecided', NULL, NULL, NULL), (5, NULL, 'nobodys draft', NULL, NULL, 'draft')`;
    system.openai.ledger.reset();

    const run = await fill('drafts');

    expect(run).toMatchObject({
      status: 'succeeded',
      rows: { planned: 1, embedded: 1 },
      tenants: { total: 1 },
      coverage: { after: { missing: 0, unembeddable: 0, embedded: 1 } },
    });
    expect(system.openai.ledger.entries.flatMap(({ texts }) => texts)).toEqual(['live']);
  });

  test('where its condition asks another table', async () => {
    await system.sql.unsafe(`INSERT INTO tagged VALUES ${ROWS}; INSERT INTO tags VALUES (1), (3)`);

    expect(await fill('tagged', '&dryRun=true')).toMatchObject({
      status: 'succeeded',
      rows: { embedded: 2 },
    });
    expect(await fill('tagged')).toMatchObject({ status: 'succeeded', rows: { embedded: 2 } });
    expect(await embeddedTexts('tagged')).toEqual(['one', 'three']);
  });
});

describe('a target that cannot be filled is refused with the reason:', () => {
  test.each([
    ['summed', 'is a view that Postgres cannot update'],
    ['materialized', 'is a materialized view'],
    ['counter', 'is no table'],
    ['drafts_wrong', 'where is refused by Postgres: column "deletedat" does not exist'],
    ['drafts_number', 'where is refused by Postgres: argument of WHERE must be type boolean'],
  ])('%s', async (name, words) => {
    const answer = await system.call('POST', `/api/v1/admin/backfill-embeddings?target=${name}`);

    expect(answer).toMatchObject({ status: 422, body: { targetState: 'mismatch' } });
    expect(answer.body.detail).toContain(words);
  });
});
