import { createHash } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { modelIdentity } from '../../src/core/target.ts';
import {
  DIMENSIONS,
  type Json,
  MODEL,
  parseVector,
  type System,
  startSystem,
  vectorOf,
} from '../support/system.ts';

let system: System;

const COLUMNS = {
  id: 'id',
  tenant: 'tenant_id',
  text: ['content'],
  embedding: 'embedding',
  model: MODEL,
  dimensions: DIMENSIONS,
};
const PREFIX = "d'oc\\: ";

beforeAll(async () => {
  system = await startSystem({
    target: { stamp: 'stamp' },
    targets: {
      prefixed: { table: 'notes', ...COLUMNS, stamp: 'stamp', prefix: PREFIX },
      plain: { table: 'notes', ...COLUMNS },
      without_column: { table: 'notes', ...COLUMNS, stamp: 'not "there"' },
      wrong_column: { table: 'notes', ...COLUMNS, stamp: 'wrong' },
    },
  });
  await system.sql`ALTER TABLE notes ADD COLUMN stamp text, ADD COLUMN wrong text NOT NULL DEFAULT ''`;
});
afterAll(() => system.close());
beforeEach(async () => {
  await system.sql`DELETE FROM notes`;
  await system.addRows([
    { tenant: 'acme', text: 'one' },
    { tenant: 'acme', text: 'two' },
    { tenant: 'globex', text: 'three' },
    { tenant: 'globex', text: ' ' },
  ]);
  await system.backfill('?target=notes');
  system.openai.ledger.reset();
});

const md5 = (text: string) => createHash('md5').update(text).digest('hex');
const identity = modelIdentity({ model: MODEL, dimensions: DIMENSIONS });
const sent = () => system.openai.ledger.entries.flatMap(({ texts }) => texts).sort();
const coverage = async (target = 'notes', query = ''): Promise<Json> =>
  (await system.call('GET', `/api/v1/admin/targets/${target}/coverage${query}`)).body;
const vectorIn = async (text: string) => {
  const [row] = await system.sql`SELECT embedding::text AS vector FROM notes WHERE content = ${text}`;
  return parseVector(row?.vector);
};

test('a run writes beside each vector the stamp of the model and the text', async () => {
  const rows = await system.sql`SELECT content, stamp FROM notes WHERE content <> ' '`;

  for (const { content, stamp } of rows) expect(stamp).toBe(md5(identity + content));
  expect(await coverage()).toEqual({
    target: 'notes',
    tenantIds: null,
    missing: 0,
    stale: 0,
    unverified: 0,
    quarantined: 0,
    unembeddable: 1,
    embedded: 3,
    estimated: false,
  });
});

test('an edit makes a row missing, and its old vector stays until the new one is there', async () => {
  await system.sql`UPDATE notes SET content = 'two, edited' WHERE content = 'two'`;
  await system.sql`UPDATE notes SET content = '' WHERE content = 'three'`;

  expect(await coverage()).toMatchObject({ missing: 1, stale: 1, unembeddable: 2, embedded: 1 });
  expect(await coverage('notes', '?tenantId=globex')).toMatchObject({
    missing: 0,
    unembeddable: 2,
    tenantIds: ['globex'],
  });
  expect(await coverage('plain')).toMatchObject({ missing: 0, embedded: 3 });
  expect(await vectorIn('two, edited')).toEqual(vectorOf('two'));

  const dry = await system.backfill('?target=notes&dryRun=true');
  expect(dry).toMatchObject({ status: 'succeeded', rows: { embedded: 1 } });
  expect(await vectorIn('two, edited')).toEqual(vectorOf('two'));
  system.openai.ledger.reset();

  const run = await system.backfill('?target=notes');

  expect(run).toMatchObject({
    status: 'succeeded',
    rows: { planned: 1, embedded: 1, remaining: 0 },
    coverage: { before: { missing: 1, stale: 1 }, after: { missing: 0, stale: 0, embedded: 2 } },
  });
  expect(sent()).toEqual(['two, edited']);
  expect(await vectorIn('two, edited')).toEqual(vectorOf('two, edited'));
});

test('another prefix makes every row missing', async () => {
  expect(await coverage('prefixed')).toMatchObject({ missing: 3, stale: 3, embedded: 0 });

  expect(await system.backfill('?target=prefixed')).toMatchObject({
    status: 'succeeded',
    rows: { embedded: 3 },
  });

  expect(sent()).toEqual(['one', 'three', 'two'].map((text) => PREFIX + text));
  const [row] = await system.sql`SELECT stamp FROM notes WHERE content = 'one'`;
  expect(row?.stamp).toBe(
    md5(`${modelIdentity({ model: MODEL, dimensions: DIMENSIONS, prefix: PREFIX })}one`),
  );
});

test('a row without a stamp is unverified: no run touches it unless it says so', async () => {
  await system.sql`UPDATE notes SET stamp = NULL WHERE content IN ('one', 'three')`;
  expect(await coverage()).toMatchObject({ missing: 0, unverified: 2, embedded: 1 });
  expect(await system.backfill('?target=notes')).toMatchObject({ status: 'succeeded', rows: { planned: 0 } });
  expect(sent()).toEqual([]);

  const run = await system.backfill('?target=notes&includeUnverified=true&tenantId=acme');

  expect(run).toMatchObject({
    status: 'succeeded',
    includeUnverified: true,
    rows: { planned: 1, embedded: 1, remaining: 0 },
  });
  expect(sent()).toEqual(['one']);
  expect(await coverage()).toMatchObject({ unverified: 1, embedded: 2 });
});

test('a large run over unverified rows goes through several batches of several passes', async () => {
  await system.sql`UPDATE notes SET stamp = NULL`;

  const run = await system.backfill('?target=notes&includeUnverified=true&batchSize=1');

  expect(run).toMatchObject({ status: 'succeeded', rows: { planned: 3, embedded: 3, remaining: 0 } });
  expect(await coverage()).toMatchObject({ missing: 0, unverified: 0, unembeddable: 1, embedded: 3 });
});

test('includeUnverified is refused where nothing tells these rows from the others', async () => {
  const answer = await system.call(
    'POST',
    '/api/v1/admin/backfill-embeddings?target=plain&includeUnverified=true',
  );

  expect(answer).toMatchObject({ status: 400, body: { errors: [{ field: 'includeUnverified' }] } });
});

test('adopt declares unverified rows right without a call, and what is edited later is stale', async () => {
  await system.sql`UPDATE notes SET stamp = NULL`;
  const adopt = async (query = '') => system.call('POST', `/api/v1/admin/targets/notes/adopt${query}`);

  expect(await adopt('?tenantId=acme')).toMatchObject({
    status: 200,
    body: { adopted: 2, unverified: 0, embedded: 2 },
  });
  expect(await adopt()).toMatchObject({ status: 200, body: { adopted: 1, unverified: 0, embedded: 3 } });
  expect(await adopt()).toMatchObject({ status: 200, body: { adopted: 0 } });
  expect(sent()).toEqual([]);
  const audit =
    await system.sql`SELECT actor, details FROM infill.audit_events WHERE action = 'target.adopted'`;
  expect(audit).toHaveLength(3);

  await system.sql`UPDATE notes SET content = 'one, edited' WHERE content = 'one'`;
  expect(await coverage()).toMatchObject({ missing: 1, stale: 1, embedded: 2 });
  expect((await system.call('POST', '/api/v1/admin/targets/plain/adopt')).status).toBe(409);
  expect((await system.call('POST', '/api/v1/admin/targets/nobody/adopt')).status).toBe(404);
});

test('a stamp column that is not there is a mismatch, with the statement that adds it', async () => {
  const { body } = await system.call('GET', '/api/v1/admin/targets');
  const of = (name: string) => body.items.find((item: Json) => item.name === name);
  const stampDdl = 'ALTER TABLE "public"."notes" ADD COLUMN "not ""there""" text;';

  expect(of('without_column')).toMatchObject({
    state: 'mismatch',
    stampDdl,
    detail: expect.stringContaining(stampDdl),
  });
  expect(of('wrong_column')).toMatchObject({
    state: 'mismatch',
    stampDdl: null,
    detail: expect.stringContaining('NOT NULL'),
  });
  expect(of('notes')).toMatchObject({ state: 'ready', stamp: 'stamp', stampDdl: null, missingIndex: false });
});
