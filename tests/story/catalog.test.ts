import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { toTargets } from '../../src/core/target.ts';
import { inspectTarget } from '../../src/db/catalog.ts';
import { type Database, openDatabase } from '../../src/db/client.ts';
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
