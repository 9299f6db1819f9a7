import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, test } from 'vitest';
import { openDatabase } from '../../src/db/client.ts';
import { openLane } from '../../src/db/lane.ts';
import { freePort } from '../support/process.ts';
import { createTestDatabase, type TestService } from '../support/services.ts';
import { until } from '../support/system.ts';

let service: TestService;
beforeAll(async () => {
  service = await createTestDatabase();
});
afterAll(() => service.close());

test('the host that takes writes is found among several', async () => {
  const address = new URL(service.url);
  const nobody = await freePort();
  const login =
    address.username === ''
      ? ''
      : `${address.username}${address.password === '' ? '' : `:${address.password}`}@`;
  const url = `postgres://${login}127.0.0.1:${nobody},${address.hostname}:${address.port}${address.pathname}`;
  const options = { connectionsMax: 2, applicationName: 'test' };
  const database = openDatabase(url, options);
  const lane = openLane(url, options);
  const one = sql`SELECT 1 AS one`;

  await until(
    async () => (await database.db.execute(one).catch(() => [])).length === 1,
    'postgres.js finds it',
  );
  const bounds = { lockMs: 1_000, statementMs: 1_000 };
  await until(
    async () => (await lane.transaction([one], bounds).catch(() => [])).length === 1,
    'the lane finds it',
  );

  await lane.close();
  await database.close();
});
