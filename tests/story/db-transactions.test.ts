import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { isServiceGone } from '../../src/core/service-trouble.ts';
import { type Database, openDatabase } from '../../src/db/client.ts';
import { createTestDatabase, type TestService } from '../support/services.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';

let service: TestService;
let proxy: TcpProxy;
let database: Database;

beforeAll(async () => {
  service = await createTestDatabase();
  proxy = await startTcpProxy(service.url);
  database = openDatabase(proxy.url, { connectionsMax: 2, applicationName: 'test' });
  await database.db.execute(sql`CREATE TABLE things (name text PRIMARY KEY)`);
});
beforeEach(async () => void (await database.db.execute(sql`DELETE FROM things`)));
afterAll(async () => {
  await database.close();
  await proxy.close();
  await service.close();
});

async function names(): Promise<string[]> {
  const rows = await database.db.execute<{ name: string }>(sql`SELECT name FROM things ORDER BY name`);
  return rows.map(({ name }) => name);
}

async function ping({ db }: Database): Promise<void> {
  await db.execute(sql`SELECT 1`);
}

test('a transaction lands as a whole', async () => {
  const returned = await database.db.transaction(async (tx) => {
    await tx.execute(sql`INSERT INTO things VALUES ('one')`);
    await tx.execute(sql`INSERT INTO things VALUES ('two')`);
    return 'done';
  });

  expect(returned).toBe('done');
  expect(await names()).toEqual(['one', 'two']);
});

test('a transaction that throws leaves nothing, and says what was thrown', async () => {
  const failing = database.db.transaction(async (tx) => {
    await tx.execute(sql`INSERT INTO things VALUES ('one')`);
    throw new Error('changed my mind');
  });

  await expect(failing).rejects.toThrow('changed my mind');
  expect(await names()).toEqual([]);
});

test('a refused statement leaves nothing, and its connection serves on', async () => {
  for (let times = 0; times < 5; times++) {
    const failing = database.db.transaction(async (tx) => {
      await tx.execute(sql`INSERT INTO things VALUES ('one')`);
      await tx.execute(sql`INSERT INTO things VALUES ('one')`);
    });

    await expect(failing).rejects.toMatchObject({ cause: { code: '23505' } });
  }
  expect(await names()).toEqual([]);
});

// vitest fails the file on an uncaught exception, as Node would end the process.
test('a connection that is lost within a transaction fails the transaction, and nothing else', async () => {
  for (let times = 0; times < 5; times++) {
    const failing = database.db.transaction(async (tx) => {
      await tx.execute(sql`INSERT INTO things VALUES ('one')`);
      proxy.freeze();
      const waiting = tx.execute(sql`INSERT INTO things VALUES ('two')`);
      setTimeout(() => void proxy.cut().then(() => proxy.restore()), 20);
      await waiting;
    });

    const error = await failing.catch((thrown: unknown) => thrown);
    expect(isServiceGone(error), String(error)).toBe(true);
    expect(await names()).toEqual([]);
  }
});

test('a statement is answered or fails, whatever becomes of its connection', async () => {
  const single = openDatabase(proxy.url, { connectionsMax: 1, applicationName: 'test' });
  for (let times = 0; times < 5; times++) {
    await ping(single);
    proxy.reset();
    // The first is on its way as the connection breaks; the second is sent as soon as the first has failed.
    await ping(single).catch(() => undefined);
    await ping(single).catch(() => undefined);
  }
  await single.close();
});

test('a database that refused connections is used again as soon as it is back', async () => {
  await proxy.cut();
  for (let times = 0; times < 6; times++) await expect(ping(database)).rejects.toThrow();
  await proxy.restore();

  const startedAtMs = Date.now();
  await Promise.all(Array.from({ length: 4 }, () => ping(database)));
  // The longest pause between two attempts is a second; an attempt that nobody writes on takes five.
  expect(Date.now() - startedAtMs).toBeLessThan(4_000);
});
