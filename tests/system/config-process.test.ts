import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { freePort, startProcess } from '../support/process.ts';
import { until } from '../support/system.ts';

const GOOD = {
  DATABASE_URL: 'postgres://user:secret@localhost:5432/app',
  REDIS_URL: 'redis://localhost:6379',
  ADMIN_SECRET: 'long enough to be one',
};
const SHIPPED_TARGETS = fileURLToPath(new URL('../../targets.json', import.meta.url));

describe('a process', () => {
  /** Of its own, so that no `.env` of the repository is read. */
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'infill-config-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  const run = (entry: string, env: Record<string, string>) =>
    startProcess(fileURLToPath(new URL(`../../src/${entry}`, import.meta.url)), env, folder);

  test.each(['api.ts', 'worker.ts', 'migrate.ts'])(
    'that is started with nothing set ends with 1 and says what it needs: %s',
    async (entry) => {
      const started = run(entry, {});

      expect(await started.ended).toBe(1);
      expect(started.output()).toContain('DATABASE_URL is missing: PostgreSQL');
      expect(started.output()).not.toContain('    at ');
    },
  );

  test('with an empty admin secret does not start', async () => {
    const started = run('api.ts', { ...GOOD, ADMIN_SECRET: '', TARGETS_FILE: SHIPPED_TARGETS });

    expect(await started.ended).toBe(1);
    expect(started.output()).toBe(
      'The configuration has a mistake:\n  - ADMIN_SECRET (or AUTH_SECRET) is missing: expected at least 16 characters\n',
    );
  });

  test.each(['api.ts', 'worker.ts'])(
    'lists the mistakes of its variables and of its file of targets together: %s',
    async (entry) => {
      const file = join(folder, 'wrong-targets.json');
      await writeFile(file, '{"targets": {"notes": {"table": "notes"}}}');

      const started = run(entry, { ...GOOD, PORT: 'none', TARGETS_FILE: file });

      expect(await started.ended).toBe(1);
      expect(started.output()).toContain('PORT: expected a whole number');
      expect(started.output()).toContain('targets.notes.id: ');
    },
  );

  test('without its file of targets does not start', async () => {
    const started = run('worker.ts', { ...GOOD, TARGETS_FILE: 'none.json' });

    expect(await started.ended).toBe(1);
    expect(started.output()).toContain('TARGETS_FILE none.json cannot be read');
  });

  test.each([
    ['api.ts', 'REDIS_URL=mysql://of-the-file', 'REDIS_URL: expected a URL such as '],
    ['worker.ts', 'REDIS_URL=mysql://of-the-file', 'REDIS_URL: expected a URL such as '],
    ['migrate.ts', 'DATABASE_URL=postgres://nobody@127.0.0.1:1/none', 'The migration failed: '],
  ])('takes from the file .env what is set to nothing: %s', async (entry, line, said) => {
    await writeFile(join(folder, '.env'), `${line}\n`);

    const [name = ''] = line.split('=');
    const started = run(entry, { ...GOOD, [name]: '', TARGETS_FILE: SHIPPED_TARGETS });

    expect(await started.ended).toBe(1);
    expect(started.output()).toContain(said);
    await rm(join(folder, '.env'));
  });

  test('reads the file .env where it is started; what is set goes before it', async () => {
    const port = await freePort();
    const secret = 'a secret of the file .env';
    await writeFile(
      join(folder, '.env'),
      `DATABASE_URL=postgres://nobody@127.0.0.1:1/none\nREDIS_URL=redis://127.0.0.1:1\nADMIN_SECRET="${secret}"\nPORT=1\n`,
    );
    await copyFile(SHIPPED_TARGETS, join(folder, 'targets.json'));
    const api = run('api.ts', { PORT: String(port) });
    const ask = () =>
      fetch(`http://127.0.0.1:${port}/api/v1/admin/targets`, { headers: { 'x-admin-secret': secret } });

    let status = 0;
    await until(async () => {
      status = await ask().then(
        (answer) => answer.status,
        () => 0,
      );
      return status !== 0;
    }, 'the API answers');

    // The secret is right, and Postgres is not there.
    expect(status).toBe(503);
    await api.stop('SIGKILL');
  });
});
