import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { HOSTILE, TABLES, TARGETS } from '../support/odd-targets.ts';
import { type Json, parseVector, type System, startSystem, vectorOf } from '../support/system.ts';

let system: System;

beforeAll(async () => {
  system = await startSystem({ targets: TARGETS });
  await system.sql.unsafe(TABLES);
});
afterAll(() => system.close());

/** Backfills a target and returns its run, and each text with its vector. */
async function fill(name: string, query = ''): Promise<Json> {
  return system.backfill(`?target=${name}&batchSize=2${query}`);
}

async function vectorsOf(
  table: string,
  text = 'content',
  embedding = 'embedding',
): Promise<[string, number[] | null][]> {
  const quote = (name: string) => `"${name.replaceAll('"', '""')}"`;
  const from = table.includes('.') ? table : quote(table);
  const rows = await system.sql.unsafe(
    `SELECT ${quote(text)} AS text, ${quote(embedding)}::text AS vector FROM ${from} ORDER BY 1`,
  );
  return rows.map(({ text: content, vector }) => [content, vector === null ? null : parseVector(vector)]);
}

const embedded = (texts: string[]) => texts.map((text) => [text, vectorOf(text)]);
const FIVE = ['five', 'four', 'one', 'three', 'two'];

describe('a table is filled', () => {
  test('whose ids are uuids', async () => {
    for (const text of FIVE) await system.sql`INSERT INTO uuids VALUES (${randomUUID()}, 'acme', ${text})`;

    expect(await fill('uuids')).toMatchObject({ status: 'succeeded', rows: { planned: 5, embedded: 5 } });
    expect(await vectorsOf('uuids')).toEqual(embedded(FIVE));
  });

  test('whose ids are texts of any kind, with tenants that are uuids', async () => {
    const tenant = randomUUID();
    const ids = ['', 'a,b', '{}', 'Ümläut "quoted"', "o'neil \\ 😀"];
    for (const [index, id] of ids.entries())
      await system.sql`INSERT INTO texts VALUES (${id}, ${tenant}, ${FIVE[index] ?? ''})`;

    const run = await fill('texts');

    expect(run).toMatchObject({ status: 'succeeded', rows: { planned: 5, embedded: 5 } });
    expect(await vectorsOf('texts')).toEqual(embedded(FIVE));
    const rows = await system.listed(run.runId, 'rows', 2);
    expect(rows.map(({ rowId }) => rowId).sort()).toEqual(ids.toSorted());
    expect(new Set(rows.map(({ tenantId }) => tenantId))).toEqual(new Set([tenant]));
  });

  test('whose ids are integers, negative ones too, and whose texts and tenants have a length', async () => {
    for (const [index, text] of FIVE.entries())
      await system.sql`INSERT INTO integers VALUES (${index - 3}, 'acme', ${text})`;

    expect(await fill('integers')).toMatchObject({ status: 'succeeded', rows: { planned: 5, embedded: 5 } });
    expect(await vectorsOf('integers')).toEqual(embedded(FIVE));
  });

  test('that is in another schema, with capitals and spaces in its names', async () => {
    await system.sql`INSERT INTO crm."Contacts" VALUES (1, 'acme', 'Müller', NULL), (2, 'acme', NULL, 'called twice')`;

    expect(await fill('crm')).toMatchObject({ status: 'succeeded', rows: { embedded: 2 } });
    expect(await vectorsOf('crm."Contacts"', 'Last Name')).toEqual([
      ['Müller', vectorOf('Müller')],
      [null, vectorOf('called twice')],
    ]);
  });

  test('that has several text columns, of which the blank ones are left out', async () => {
    await system.sql`
      INSERT INTO articles VALUES (1, 'acme', 'Title', 'Body', 4.5), (2, 'acme', ' ', 'Body alone', NULL), (3, 'acme', 'Title alone', '', NULL),
             (4, 'acme', NULL, E'\n\t', NULL)`;

    const run = await fill('articles');

    expect(run).toMatchObject({
      status: 'succeeded',
      rows: { planned: 3, embedded: 3 },
      coverage: { after: { unembeddable: 1 } },
    });
    const rows = await system.sql`SELECT id, embedding::text AS vector FROM articles ORDER BY id`;
    const sent = ['Title\n\nBody\n\n4.5', 'Body alone', 'Title alone'];
    expect(rows.map(({ vector }) => vector && parseVector(vector))).toEqual([...sent.map(vectorOf), null]);
  });

  test('that has no tenants: all its rows are of one, called default', async () => {
    await system.sql`INSERT INTO alone VALUES (1, 'one'), (2, 'two'), (3, 'three')`;

    const run = await fill('alone');

    expect(run).toMatchObject({
      status: 'succeeded',
      tenants: { total: 1, settled: 1 },
      rows: { embedded: 3 },
    });
    expect((await system.listed(run.runId, 'tenants')).map(({ tenantId }) => tenantId)).toEqual(['default']);
    expect(await vectorsOf('alone')).toEqual(embedded(['one', 'three', 'two']));
  });

  test('whose tenants are numbers, with and without the index that finds missing rows', async () => {
    for (const round of [1, 2]) {
      await system.sql`INSERT INTO typed VALUES (${round * 10}, 10, 'one'), (${round * 10 + 1}, 9, 'two'), (${round * 10 + 2}, 10, 'three')`;
      const run = await fill('typed', '&tenantId=9&tenantId=10');
      expect(run).toMatchObject({
        status: 'succeeded',
        tenants: { total: 2 },
        rows: { embedded: 3, remaining: 0 },
      });
      await system.sql`CREATE INDEX IF NOT EXISTS typed_missing ON typed (tenant_number, id) WHERE embedding IS NULL`;
    }
    expect(system.output()).toContain('missing_index_absent');
  });

  test('whose tenants are numbers: an id is what it means, and one that is no number is refused', async () => {
    await system.sql`INSERT INTO typed VALUES (100, 7, 'one')`;
    expect(await fill('typed', '&tenantId=007')).toMatchObject({
      status: 'succeeded',
      rows: { embedded: 1 },
    });

    for (const id of ['abc', '1.5', '9999999999999999999']) {
      const answer = await system.call(
        'POST',
        `/api/v1/admin/backfill-embeddings?target=typed&tenantId=${id}`,
      );
      expect(answer, id).toMatchObject({ status: 400, body: { errors: [{ field: 'tenantId' }] } });
    }
    const only = await system.call('POST', '/api/v1/admin/backfill-embeddings?target=alone&tenantId=acme');
    expect(only).toMatchObject({ status: 400, body: { errors: [{ field: 'tenantId' }] } });
  });

  test('whose vector column has no dimensions of its own', async () => {
    await system.sql`INSERT INTO loose VALUES (1, 'acme', 'one')`;

    expect(await fill('loose')).toMatchObject({ status: 'succeeded', rows: { embedded: 1 } });
    expect(await vectorsOf('loose')).toEqual(embedded(['one']));
  });

  test('that is partitioned', async () => {
    await system.sql`INSERT INTO parted VALUES (1, 'acme', 'one'), (2, 'acme', 'two'), (3, 'globex', 'three'), (9, 'acme', 'four')`;

    expect(await fill('parted')).toMatchObject({ status: 'succeeded', rows: { embedded: 4 } });
    expect(await vectorsOf('parted')).toEqual(embedded(['four', 'one', 'three', 'two']));
  });

  test('whose every name is an attack, and no other table is harmed', async () => {
    const tenant = "'; DELETE FROM infill.runs; --";
    await system.addRows([{ tenant: 'acme', text: 'still here' }]);
    await system.sql.unsafe(
      `INSERT INTO "x""; drop table notes; --" VALUES (1, $1, 'one'), (2, $1, 'two'), (3, $1, 'three')`,
      [tenant],
    );

    const run = await fill('hostile');

    expect(run).toMatchObject({ status: 'succeeded', rows: { planned: 3, embedded: 3, remaining: 0 } });
    expect(await vectorsOf(HOSTILE.table, HOSTILE.text, HOSTILE.embedding)).toEqual(
      embedded(['one', 'three', 'two']),
    );
    expect((await system.rows()).map(({ content }) => content)).toEqual(['still here']);
    expect((await system.run(run.runId)).runId).toBe(run.runId);
  });
});

test('rows without a tenant are nobody’s to pay for: the run says how many there are, and fills the others', async () => {
  await system.sql`INSERT INTO nobodys VALUES (1, 'acme', 'one'), (2, NULL, 'two'), (3, NULL, ' '), (4, NULL, 'three')`;

  system.openai.ledger.reset();

  const dry = await system.backfill('?target=nobodys&dryRun=true');
  const run = await fill('nobodys');

  expect(run).toMatchObject({ status: 'incomplete', rows: { planned: 1, embedded: 1, remaining: 2 } });
  expect(run.reason).toBe('2 missing rows have no tenant');
  expect(dry).toMatchObject({ status: 'incomplete', reason: run.reason, rows: { embedded: 1 } });
  expect(system.openai.ledger.countOf('two')).toBe(0);
});

test('blank texts are not missing, and are never sent', async () => {
  const blanks = ['', ' ', '\n\t\r'];
  for (const [index, text] of blanks.entries())
    await system.sql`INSERT INTO blank VALUES (${index}, 'acme', ${text})`;
  await system.sql`INSERT INTO blank VALUES (90, 'acme', NULL), (91, 'acme', 'a')`;
  system.openai.ledger.reset();

  const run = await fill('blank');

  expect(run).toMatchObject({ status: 'succeeded', rows: { planned: 1, embedded: 1, remaining: 0 } });
  expect(run.coverage.after).toEqual({
    missing: 0,
    stale: 0,
    unverified: 0,
    quarantined: 0,
    unembeddable: 4,
    embedded: 1,
    estimated: false,
  });
  expect(system.openai.ledger.entries.flatMap(({ texts }) => texts)).toEqual(['a']);
});

describe('a target that is not as described starts no run, and names what is there and what was expected:', () => {
  test.each([
    ['wrong_size', ['embedding column "embedding" is vector(8), expected vector(9)']],
    ['wrong_kind', ['embedding column "content" is text, expected vector(8)']],
    ['wrong_id', ['id column "id" is date, expected uuid, bigint, integer or text']],
    [
      'wrong_columns',
      [
        'id column "key" does not exist',
        'tenant column "owner" does not exist',
        'text column "summary" does not exist',
        'embedding column "vector" does not exist, expected vector(8)',
      ],
    ],
  ])('%s', async (name, mistakes) => {
    const answer = await system.call('POST', `/api/v1/admin/backfill-embeddings?target=${name}`);

    expect(answer).toMatchObject({
      status: 422,
      body: { type: '/docs/problems#target_not_ready', targetState: 'mismatch' },
    });
    expect(answer.body.detail).toContain(`Target "${name}"`);
    for (const mistake of mistakes) expect(answer.body.detail).toContain(mistake);
    expect(await system.sql`SELECT 1 FROM infill.runs WHERE target = ${name}`).toEqual([]);
  });
});

test('the list of targets tells the state, the coverage and the missing index of each', async () => {
  const { body } = await system.call('GET', '/api/v1/admin/targets');
  const of = (name: string) => body.items.find((item: Json) => item.name === name);

  expect(body.items).toHaveLength(Object.keys(TARGETS).length + 2);
  expect(of('absent')).toMatchObject({ state: 'absent', coverage: null });
  expect(of('wrong_size')).toMatchObject({ state: 'mismatch', detail: expect.stringContaining('vector(8)') });
  expect(of('nobodys')).toMatchObject({
    state: 'ready',
    coverage: { missing: 2, quarantined: 0, unembeddable: 1, embedded: 1 },
    missingIndex: false,
    missingIndexDdl:
      'CREATE INDEX CONCURRENTLY "nobodys_missing_embedding" ON "public"."nobodys" ("tenant_id", "id") WHERE "embedding" IS NULL;',
  });
  expect(of('hostile')).toMatchObject({
    state: 'ready',
    missingIndex: true,
    coverage: { missing: 0, embedded: 3 },
  });
});
