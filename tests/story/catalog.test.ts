import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { toTargets } from '../../src/core/target.ts';
import { inspectTarget } from '../../src/db/catalog.ts';
import { type Database, openDatabase } from '../../src/db/client.ts';
import { isWork } from '../../src/db/target-sql.ts';
import { createTestDatabase, type TestService } from '../support/services.ts';

let service: TestService;
let database: Database;

beforeAll(async () => {
  service = await createTestDatabase();
  database = openDatabase(service.url, { connectionsMax: 1, applicationName: 'test' });
});
afterAll(async () => {
  await database.close();
  await service.close();
});

const entry = { text: ['content'], model: 'm', dimensions: 3, onTooLong: 'quarantine' as const };

test.each([
  ['ordinary names', { table: 'notes', id: 'id', tenant: 'tenant_id', embedding: 'embedding' }],
  [
    'names of many kinds',
    { table: 'My "Notes"; --', id: 'select', tenant: "o'neil", embedding: 'vec tor\\' },
  ],
  [
    'names as long as they can be',
    { table: 't'.repeat(63), id: 'i'.repeat(63), tenant: 'n'.repeat(63), embedding: 'e'.repeat(63) },
  ],
  ['no tenants', { table: 'single', id: 'id', tenant: undefined, embedding: 'embedding' }],
])(
  'the statement for the missing index makes the index that is missed: %s',
  async (name, { table, id, tenant, embedding }) => {
    const column = (it: string, type: string) => sql`${sql.identifier(it)} ${sql.raw(type)}`;
    const columns = [column(id, 'bigint'), column('content', 'text'), column(embedding, 'vector(3)')];
    if (tenant !== undefined) columns.push(column(tenant, 'text'));
    await database.db.execute(sql`CREATE TABLE ${sql.identifier(table)} (${sql.join(columns, sql`, `)})`);
    const target = toTargets({ targets: { [name]: { ...entry, table, id, tenant, embedding } } }).get(name);
    if (target === undefined) throw new Error('a target has its name');

    const before = await inspectTarget(database.db, target);
    if (before.kind !== 'ready') throw new Error(before.detail);
    expect(before.target.hasMissingIndex).toBe(false);
    await database.db.execute(sql.raw(before.target.missingIndexDdl ?? ''));

    expect(await inspectTarget(database.db, target)).toMatchObject({
      kind: 'ready',
      target: { hasMissingIndex: true },
    });
  },
);

const STAMPED = {
  table: 'stamped',
  id: 'id',
  tenant: 'tenant_id',
  embedding: 'embedding',
  model: 'm"\\n',
  dimensions: 3,
  prefix: "it's: ",
  onTooLong: 'quarantine' as const,
};

describe('the planner takes the printed index', () => {
  test.each([
    ['a stamp', { text: ['content'], stamp: 'stamp' }],
    [
      'a stamp of several columns of many types',
      { text: ['content', 'label', 'body', 'rating'], stamp: 'stamp' },
    ],
    ['a condition', { text: ['content'], where: "deleted_at IS NULL AND state IN ('a', 'b')" }],
    [
      'a condition that changes with time',
      { text: ['content'], where: 'deleted_at IS NULL OR deleted_at > now()' },
    ],
    ['both', { text: ['content'], stamp: 'stamp', where: "coalesce(state, '') <> 'draft'" }],
  ])('of %s', async (_what, fields) => {
    await database.db.execute(sql`DROP TABLE IF EXISTS stamped`);
    await database.db.execute(sql`
      CREATE TABLE stamped (id bigint PRIMARY KEY, tenant_id text, content text, label varchar(10), body char(5), rating numeric,
                            embedding vector(3), stamp text, state text, deleted_at timestamptz)`);
    await database.db.execute(sql`CREATE INDEX ON stamped (tenant_id, id)`);
    const target = toTargets({ targets: { stamped: { ...STAMPED, ...fields } } }).get('stamped');
    if (target === undefined) throw new Error('a target has its name');
    const before = await inspectTarget(database.db, target);
    if (before.kind !== 'ready') throw new Error(before.detail);
    expect(before.target.hasMissingIndex).toBe(false);

    await database.db.execute(sql.raw(before.target.missingIndexDdl ?? ''));

    expect(await inspectTarget(database.db, target)).toMatchObject({ target: { hasMissingIndex: true } });
    const plan = await database.db.transaction(async (tx) => {
      await tx.execute(sql`SET LOCAL enable_seqscan = off`);
      return tx.execute(sql`
        EXPLAIN SELECT t.id FROM stamped AS t WHERE t.tenant_id = 'acme' AND ${isWork(before.target)} ORDER BY t.id LIMIT 1`);
    });
    expect(JSON.stringify(plan)).toContain('stamped_missing_embedding');
  });
});
