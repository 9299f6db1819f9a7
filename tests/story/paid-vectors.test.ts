import { createHash } from 'node:crypto';
import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TargetsFile, toTargets } from '../../src/core/target.ts';
import { inspectTarget } from '../../src/db/catalog.ts';
import { type Database, openDatabase } from '../../src/db/client.ts';
import { readPaidVectors } from '../../src/db/paid-vectors.ts';
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

test.each([
  ['uuid', '018f4e2a-0000-7000-8000-000000000001', '018f4e2a-0000-7000-8000-000000000002'],
  ['bigint', '9007199254740993', '-1'],
  ['text', 'o\'neil, {braces} and "quotes"', 'null'],
  ['varchar(40)', 'id 1', 'id 2'],
])('the vector of a paid text is read from a row whose id is a %s', async (type, id, otherId) => {
  const table = `notes_${type.replace(/\W/g, '_')}`;
  await database.db.execute(sql`
    CREATE TABLE ${sql.identifier(table)} (id ${sql.raw(type)} PRIMARY KEY, tenant_id text, content text, embedding vector(2))`);
  await database.db.execute(sql`
    INSERT INTO ${sql.identifier(table)} VALUES (${id}, 'acme', 'paid', '[0.5,-2]'), (${otherId}, 'globex', 'theirs', '[1,1]')`);
  const file = {
    targets: {
      notes: {
        ...{ table, id: 'id', tenant: 'tenant_id', text: ['content'], embedding: 'embedding' },
        ...{ model: 'm', dimensions: 2 },
      },
    },
  };
  const target = toTargets(TargetsFile.parse(file)).get('notes');
  const state = target && (await inspectTarget(database.db, target));
  if (state?.kind !== 'ready') throw new Error(`the table is ready: ${JSON.stringify(state)}`);

  const found = await readPaidVectors(database.db, state.target, 'acme', [id, otherId]);

  const hash = createHash('sha256').update('paid').digest('hex');
  expect(found).toEqual(new Map([[hash, Float32Array.of(0.5, -2)]]));
});
