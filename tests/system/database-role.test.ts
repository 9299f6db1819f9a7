/** The rights that docs/operations.md grants, run as they stand there. */
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import postgres from 'postgres';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openDatabase } from '../../src/db/client.ts';
import { readDatabaseHealth } from '../../src/db/database-health.ts';
import { migrate } from '../../src/db/migrate.ts';
import { isRealPostgres, type System, startSystem, wrongRows } from '../support/system.ts';

/** The embedded Postgres knows one user. */
const onlyReal = describe.skipIf(!isRealPostgres());

onlyReal('with the rights of docs/operations.md and no others', () => {
  const id = randomUUID().slice(0, 8);
  const roles = { migrate: `migrate_${id}`, work: `work_${id}` };
  let system: System;

  beforeAll(async () => {
    system = await startSystem({ workers: 0, api: false });
    const [administrator, migrator, owner] = await grants(new URL(system.databaseUrl).pathname.slice(1));
    await system.sql.unsafe(`DROP SCHEMA infill CASCADE; ${administrator}`);
    await migrate(as(roles.migrate));
    const migrating = postgres(as(roles.migrate), { max: 1, onnotice: () => undefined });
    await migrating.unsafe(migrator ?? '');
    await migrating.end();
    await system.sql.unsafe(owner ?? '');

    system.env.DATABASE_URL = as(roles.work);
    await system.startApi();
    await system.startWorker();
  });

  afterAll(async () => {
    await Promise.all(system.processes.map((one) => one.stop('SIGKILL')));
    for (const role of Object.values(roles))
      await system.sql.unsafe(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
    await system.close();
  });

  test('a right that is missing is told before anything is sent', async () => {
    await system.sql.unsafe(
      `REVOKE UPDATE ON notes FROM ${roles.work}; REVOKE UPDATE (embedding) ON notes FROM ${roles.work}`,
    );
    system.openai.ledger.reset();

    const answer = await system.call('POST', '/api/v1/admin/backfill-embeddings');

    expect(answer.status).toBe(422);
    expect(answer.body.detail).toContain('this role may not UPDATE column "embedding"');
    expect(system.openai.ledger.entries).toEqual([]);
    await system.sql.unsafe(`GRANT UPDATE (embedding) ON notes TO ${roles.work}`);
  });

  test('a run fills its rows, and everything of it can be read', async () => {
    await system.addRows([1, 2, 3].map((number) => ({ tenant: 'acme', text: `note ${number}` })));

    const run = await system.backfill();

    expect(run).toMatchObject({ status: 'succeeded', message: 'Successfully backfilled 3 embeddings.' });
    expect(wrongRows(await system.rows())).toEqual([]);
    for (const path of ['targets', 'estimate?target=notes', 'quarantine', 'switches', 'credentials']) {
      expect((await system.call('GET', `/api/v1/admin/${path}`)).status, path).toBe(200);
    }
    expect(system.output()).not.toContain('permission denied');
  });

  test('a migration that runs again finds nothing to do', async () => {
    await expect(migrate(as(roles.migrate))).resolves.toBeUndefined();
  });

  test("the working role can change no other column of the user's table, and no schema", async () => {
    const working = postgres(as(roles.work), { max: 1, onnotice: () => undefined });

    await expect(working`UPDATE notes SET content = 'x'`).rejects.toThrow('permission denied');
    await expect(working`DELETE FROM notes`).rejects.toThrow('permission denied');
    await expect(working`CREATE TABLE infill.more ()`).rejects.toThrow('permission denied');
    await working.end();
  });

  test("the working role sees other roles' connections, so that a run leaves room for them", async () => {
    const working = openDatabase(as(roles.work), { connectionsMax: 1, applicationName: 'test' });
    const others = postgres(system.databaseUrl, { max: 5 });
    const before = await readDatabaseHealth(working.db);

    await Promise.all(Array.from({ length: 5 }, () => others`SELECT pg_sleep(0.2)`));

    expect((await readDatabaseHealth(working.db)).connections).toBeGreaterThanOrEqual(before.connections + 4);
    await Promise.all([others.end(), working.close()]);
  });

  function as(role: string): string {
    const url = new URL(system.databaseUrl);
    url.username = role;
    return url.href;
  }

  /** The three parts of the page's first SQL, with this test's names in place of the page's. */
  async function grants(database: string): Promise<string[]> {
    const page = await readFile(new URL('../../docs/operations.md', import.meta.url), 'utf8');
    const [, sql = ''] = /```sql\n([\s\S]*?)```/.exec(page) ?? [];
    const named = sql
      .replaceAll('infill_migrate', roles.migrate)
      .replace(/\b(TO|ROLE) infill\b/g, `$1 ${roles.work}`)
      .replace('DATABASE app', `DATABASE "${database}"`)
      .replace('workflow_insights', 'notes');
    return named.split(/^-- \d\. .*$/m).slice(1);
  }
});
