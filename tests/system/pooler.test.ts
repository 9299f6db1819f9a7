import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sql } from 'drizzle-orm';
import { afterEach, describe, expect, test } from 'vitest';
import { postgresTrouble } from '../../src/core/postgres-trouble.ts';
import { openDatabase } from '../../src/db/client.ts';
import { openLane } from '../../src/db/lane.ts';
import { migrate } from '../../src/db/migrate.ts';
import { findPooling } from '../../src/db/pooler.ts';
import { makeCertificates } from '../support/certificates.ts';
import { type PgBouncer, startPgBouncer } from '../support/pgbouncer.ts';
import { createTestDatabase } from '../support/services.ts';
import { isRealPostgres, startSystem } from '../support/system.ts';

const ROWS = 3_000;
const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

async function behindPooler(databaseUrl: string, lines: readonly string[] = []): Promise<PgBouncer> {
  const pooler = await startPgBouncer(databaseUrl, { lines });
  closing.push(() => pooler.close());
  return pooler;
}

async function emptyDatabase(): Promise<string> {
  const database = await createTestDatabase();
  closing.push(() => database.close());
  return database.url;
}

// PGlite has one session for all, so that nothing could go wrong behind a pooler.
describe.skipIf(!isRealPostgres())('a pooler in transaction mode', () => {
  test.each([
    ['that refuses settings in the startup packet, as it does by default', []],
    [
      'that drops them without a word',
      [
        'ignore_startup_parameters = lock_timeout,statement_timeout,idle_in_transaction_session_timeout,extra_float_digits',
      ],
    ],
  ])('%s is found out, and a run of two workers pays for each text once', async (_what, lines) => {
    const databaseUrl = await emptyDatabase();
    const pooler = await behindPooler(databaseUrl, lines);
    const system = await startSystem({ workers: 0, api: false });
    closing.push(() => system.close());
    const direct = system.databaseUrl;
    const through = await behindPooler(direct, lines);
    system.env['DATABASE_URL'] = through.url;
    await system.startApi();
    await Promise.all([system.startWorker(), system.startWorker()]);
    await system.addRows(
      Array.from({ length: ROWS }, (_, n) => ({ tenant: `tenant ${n % 7}`, text: `note ${n}` })),
    );

    const run = await system.backfill('?batchSize=20');

    expect(run).toMatchObject({ status: 'succeeded', rows: { embedded: ROWS, failed: 0, remaining: 0 } });
    expect(system.openai.ledger.summary().billedInputs).toBe(ROWS);
    expect(await findPooling(pooler.url)()).toBe(true);
    expect(await findPooling(databaseUrl)()).toBe(false);
  });

  test('migrates, and does so again while its connections are kept', async () => {
    const { url } = await behindPooler(await emptyDatabase());

    await migrate(url);
    await Promise.all([migrate(url), migrate(url), migrate(url)]);
  });

  test('keeps the bounds of each statement and of each transaction, and leaves none behind', async () => {
    const { url } = await behindPooler(await emptyDatabase());
    const options = { connectionsMax: 2, applicationName: 'test', pooling: findPooling(url) };
    const database = openDatabase(url, options);
    const lane = openLane(url, options);
    closing.push(
      () => database.close(),
      () => lane.close(),
    );
    const bounds = sql`SELECT current_setting('lock_timeout') AS lock, current_setting('idle_in_transaction_session_timeout') AS idle`;

    expect([...(await database.db.execute(bounds))]).toEqual([{ lock: '5s', idle: '10s' }]);
    await database.db.transaction(async (transaction) => {
      expect([...(await transaction.execute(bounds))]).toEqual([{ lock: '5s', idle: '10s' }]);
    });
    expect(await lane.transaction([bounds], { lockMs: 2_000, statementMs: 15_000 })).toMatchObject([
      [{ lock: '2s' }],
    ]);
    const names = sql`SELECT count(*)::int AS count FROM pg_prepared_statements`;
    expect([...(await database.db.execute(names))]).toEqual([{ count: 0 }]);
  });

  test('is used over TLS, and refused where its certificate is for another host', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'infill-pooler-tls-'));
    closing.push(() => rm(folder, { recursive: true, force: true }));
    makeCertificates(folder);
    await chmod(folder, 0o755);
    await chmod(join(folder, 'server.key'), 0o644);
    const { url } = await behindPooler(await emptyDatabase(), [
      'client_tls_sslmode = require',
      `client_tls_key_file = ${folder}/server.key`,
      `client_tls_cert_file = ${folder}/server.pem`,
    ]);
    const asked = async (host: string) => {
      const address = new URL(url);
      address.hostname = host;
      address.search = `sslmode=verify-full&sslrootcert=${folder}/ca.pem`;
      const database = openDatabase(address.href, { connectionsMax: 1, applicationName: 'test' });
      closing.push(() => database.close());
      return database.db.execute(sql`SELECT 1 AS one`).then(
        (rows) => rows[0],
        (error: unknown) => postgresTrouble(error),
      );
    };

    expect(await asked('localhost')).toEqual({ one: 1 });
    expect(await asked('127.0.0.1')).toMatch(/its certificate is for another host/);
  });

  test('is taken to be there, or not, where DATABASE_POOLER says so', async () => {
    const databaseUrl = await emptyDatabase();

    expect(await findPooling(databaseUrl, 'transaction')()).toBe(true);
    expect(await findPooling('postgres://nobody@127.0.0.1:1/none', 'none')()).toBe(false);
    expect(await findPooling('postgres://nobody@127.0.0.1:1/none?pgbouncer=true')()).toBe(true);
  });
});
