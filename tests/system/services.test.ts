import { spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import postgres from 'postgres';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { ChildService } from '../../dev/services/child-service.ts';
import { startEmbeddedPostgres } from '../../dev/services/postgres.ts';
import { startEmbeddedRedis } from '../../dev/services/redis.ts';
import { SessionTurns } from '../../dev/services/session-turns.ts';
import { queryMessage, startupMessage } from '../../dev/services/wire-messages.ts';
import { createTestDatabase, createTestRedis } from '../support/services.ts';

describe('embedded Postgres', () => {
  let server: ChildService;
  let sql: postgres.Sql;

  beforeAll(async () => {
    server = await startEmbeddedPostgres();
    sql = connectTo(server.url);
    await sql`CREATE EXTENSION vector`;
    await sql`CREATE TABLE notes (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, embedding vector(3))`;
  });

  afterAll(async () => {
    await sql.end();
    await server.close();
  });

  test.each([true, false])(
    'ten connections at once each get their own answers (prepared: %s)',
    async (prepare) => {
      const ask = (n: number) => sql.unsafe(`SELECT ${n} AS said, $1::int + 0 AS sent`, [n], { prepare });

      const answers = await Promise.all(Array.from({ length: 200 }, (_, n) => ask(n)));

      expect(answers.map(([row]) => row)).toEqual(answers.map((_, n) => ({ said: n, sent: n })));
    },
  );

  test('statements of different shapes are not answered to each other', async () => {
    const shapes = Array.from({ length: 120 }, (_, n) =>
      n % 2 === 0
        ? sql.unsafe('SELECT $1::text AS a, $2::text AS b', ['x', `${n}`])
        : sql.unsafe('SELECT $1::int AS c', [n]),
    );

    const answers = await Promise.all(shapes);

    for (const [n, [row]] of answers.entries()) {
      expect(row).toEqual(n % 2 === 0 ? { a: 'x', b: `${n}` } : { c: n });
    }
  });

  test('transactions side by side commit or roll back as a whole', async () => {
    await sql`INSERT INTO notes (id) VALUES (1)`;
    const increment = (fails: boolean) =>
      sql.begin(async (tx) => {
        const [row] = await tx<{ n: number }[]>`SELECT n FROM notes WHERE id = 1`;
        await tx`UPDATE notes SET n = ${(row?.n ?? 0) + 1} WHERE id = 1`;
        if (fails) throw new Error('rolled back');
      });

    await Promise.allSettled(Array.from({ length: 30 }, (_, index) => increment(index % 3 === 0)));

    expect(await sql`SELECT n FROM notes WHERE id = 1`).toEqual([{ n: 20 }]);
  });

  test('a vector comes back as it was written', async () => {
    await sql`INSERT INTO notes (id, embedding) VALUES (2, ${'[0.25,-1.5,3]'}::vector)`;

    const [row] = await sql`SELECT embedding::text AS embedding, embedding <=> '[0.25,-1.5,3]' AS distance
                              FROM notes WHERE id = 2`;

    expect(row).toEqual({ embedding: '[0.25,-1.5,3]', distance: 0 });
  });

  test('an error spoils neither its connection nor the others', async () => {
    const failing = ['SELECT 1 / $1::int', 'SELEC $1', 'SELECT $1::nothing'];

    const outcomes = await Promise.allSettled(
      Array.from({ length: 60 }, (_, n) => sql.unsafe(failing[n % 4] ?? 'SELECT $1::int AS n', [0])),
    );

    expect(outcomes.filter((outcome) => outcome.status === 'fulfilled')).toHaveLength(15);
    expect(await sql`SELECT 1 AS ok`).toEqual([{ ok: 1 }]);
  });

  test('a client that vanishes in its transaction is rolled back and blocks nobody', async () => {
    await sql`INSERT INTO notes (id) VALUES (3)`;
    const vanishing = await openRaw(server.url);
    vanishing.write(queryMessage('BEGIN; UPDATE notes SET n = 99 WHERE id = 3'));
    await vanishing.readUntil('ZT');

    const waiting = sql`SELECT n FROM notes WHERE id = 3`.execute();
    vanishing.socket.resetAndDestroy();

    expect(await waiting).toEqual([{ n: 0 }]);
  });

  test('a client that vanishes before its Sync blocks nobody', async () => {
    const vanishing = await openRaw(server.url);
    vanishing.write(Buffer.from('P\0\0\0\x14\0SELEC nothing\0\0\0H\0\0\0\x04', 'latin1'));
    await vanishing.readUntil('E');
    vanishing.socket.resetAndDestroy();

    expect(await sql`SELECT 2 AS ok`).toEqual([{ ok: 2 }]);
  });

  test('COPY from the client is refused and harms nobody', async () => {
    const copying = await openRaw(server.url);
    copying.write(queryMessage('COPY notes FROM STDIN'));

    await copying.readUntil('cannot COPY');

    expect(await sql`SELECT 3 AS ok`).toEqual([{ ok: 3 }]);
  });

  test('a message of megabytes arrives whole', async () => {
    expect(await sql`SELECT length(${'x'.repeat(5_000_000)}) AS length`).toEqual([{ length: 5_000_000 }]);
  });

  test('a folder keeps its rows, and close leaves no process', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'infill-pg-'));
    const first = await startEmbeddedPostgres({ folder });
    await using(first, (db) => db`CREATE TABLE kept AS SELECT 7 AS n`);
    expect(isAlive(first.pid)).toBe(false);
    const second = await startEmbeddedPostgres({ folder });

    await using(second, async (db) => expect(await db`SELECT n FROM kept`).toEqual([{ n: 7 }]));

    await second.close();
    await rm(folder, { recursive: true });
  });
});

describe('embedded Redis', () => {
  test('evicts nothing and keeps nothing', async () => {
    const service = await startEmbeddedRedis();
    const redis = new Redis(service.url);

    expect(await redis.config('GET', 'maxmemory-policy')).toEqual(['maxmemory-policy', 'noeviction']);
    expect(await redis.config('GET', 'appendonly')).toEqual(['appendonly', 'no']);
    expect(await redis.dbsize()).toBe(0);

    await redis.quit();
    await service.close();
    expect(isAlive(service.pid)).toBe(false);
  });

  test('one that was killed comes back on its port', async () => {
    const killed = await startEmbeddedRedis();
    process.kill(killed.pid, 'SIGKILL');
    await killed.close();

    const back = await startEmbeddedRedis({ port: Number(new URL(killed.url).port) });

    expect(back.url).toBe(killed.url);
    await back.close();
  });

  test('ends when the process that started it is killed', async () => {
    const entry = new URL('../../dev/services/redis.ts', import.meta.url).href;
    const code = `console.log((await (await import('${entry}')).startEmbeddedRedis()).pid); process.kill(process.pid, 'SIGKILL')`;

    const { stdout } = spawnSync(process.execPath, ['--input-type=module', '--eval', code], {
      encoding: 'utf8',
    });

    const pid = Number(stdout);
    expect(pid).toBeGreaterThan(1);
    await vi.waitFor(() => expect(isAlive(pid)).toBe(false), { timeout: 10_000 });
  });

  test('several start at once on ports of their own', async () => {
    const services = await Promise.all([startEmbeddedRedis(), startEmbeddedRedis(), startEmbeddedRedis()]);

    expect(new Set(services.map((service) => service.url)).size).toBe(3);
    await Promise.all(services.map((service) => service.close()));
  });
});

describe('services of a test file', () => {
  test('two databases share no rows and both have the schema', async () => {
    const [one, two] = await Promise.all([createTestDatabase(), createTestDatabase()]);

    await using(one, (db) => db`CREATE TABLE only_here AS SELECT '[1,2]'::vector AS v`);
    await using(two, async (db) => {
      expect(await db`SELECT to_regclass('only_here') AS found`).toEqual([{ found: null }]);
      expect(await db`SELECT to_regclass('infill.runs')::text AS found`).toEqual([{ found: 'infill.runs' }]);
    });
  });

  test('two Redis share no keys', async () => {
    const [one, two] = await Promise.all([createTestRedis(), createTestRedis()]);
    const [here, there] = [new Redis(one.url), new Redis(two.url)];
    await here.set('key', 'here');

    expect(await there.dbsize()).toBe(0);

    await Promise.all([here.quit(), there.quit()]);
    await Promise.all([one.close(), two.close()]);
  });
});

function connectTo(url: string): postgres.Sql {
  return postgres(url, { max: 10, onnotice: () => {} });
}

/** Uses a database, then disconnects and closes it. */
async function using(
  service: { url: string; close(): Promise<void> },
  use: (sql: postgres.Sql) => PromiseLike<unknown>,
) {
  const sql = connectTo(service.url);
  await use(sql);
  await sql.end();
  await service.close();
}

/** A client that says exactly what it is told to, and can go without a goodbye. */
async function openRaw(url: string) {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  let received = '';
  socket.on('data', (chunk) => {
    received += chunk.toString('latin1').replaceAll('\0', '').replaceAll('\x05', '');
  });
  socket.on('error', () => {});

  const readUntil = (text: string) => vi.waitFor(() => expect(received).toContain(text), { timeout: 10_000 });
  socket.write(startupMessage('postgres', 'postgres'));
  await readUntil('ZI');
  received = '';
  return { socket, readUntil, write: (bytes: Buffer) => socket.write(bytes) };
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

test('a client that holds the session in silence while others wait is disconnected, and they go on', async () => {
  const inTransaction = Buffer.from('Z\0\0\0\x05T');
  const idle = Buffer.from('Z\0\0\0\x05I');
  const turns = new SessionTurns(async (messages) => (messages.includes('BEGIN') ? inTransaction : idle), 20);
  const [silent, waiting] = [createClient(), createClient()];
  silent.end = () => void turns.leave(silent);

  await turns.submit(Object.assign(silent, { pending: [queryMessage('BEGIN')] }));
  await turns.submit(Object.assign(waiting, { pending: [queryMessage('SELECT 1')] }));

  await vi.waitFor(() => expect(waiting.answers).toEqual([idle]));
  expect(silent.answers[1]?.toString()).toContain('without a word');
});

function createClient() {
  const answers: Buffer[] = [];
  return {
    pending: [] as Buffer[],
    answers,
    send: (answer: Buffer) => void answers.push(answer),
    end: () => {},
  };
}
