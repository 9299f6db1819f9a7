import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import postgres from 'postgres';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { readCompose } from '../support/compose.ts';
import { execForm, lastOf, REPOSITORY, readImage } from '../support/dockerfile.ts';
import {
  buildImageFolder,
  freePort,
  type ImageFolder,
  type StartedProcess,
  startInImage,
} from '../support/image-folder.ts';
import { createTestDatabase, createTestRedis, type TestService } from '../support/services.ts';

/** One install with npm and three starts, on a machine that may be busy. */
const INSTALL_TIMEOUT_MS = 180_000;

const READY_TIMEOUT_MS = 30_000;

/** What package-lock.json says of each folder below node_modules. */
type LockedPackages = Record<
  string,
  { dev?: boolean; devOptional?: boolean; dependencies?: Readonly<Record<string, string>> }
>;

let image: ImageFolder;
let database: TestService;
let redis: TestService;
const started: StartedProcess[] = [];

beforeAll(async () => {
  image = await buildImageFolder('Dockerfile.api');
  database = await createTestDatabase();
  redis = await createTestRedis();
}, INSTALL_TIMEOUT_MS);

afterAll(async () => {
  for (const process of started) await process.close();
  await redis?.close();
  await database?.close();
  await image?.close();
});

describe('what an image holds', () => {
  test('every package of production and none of development, so no second Node either', () => {
    const lock = JSON.parse(readFileSync(join(REPOSITORY, 'package-lock.json'), 'utf8')) as {
      packages: LockedPackages;
    };
    const installed = Object.entries(lock.packages).filter(
      ([path]) => path !== '' && existsSync(join(image.folder, path)),
    );
    const { dependencies } = lock.packages[''] ?? {};

    expect(installed.filter(([, { dev, devOptional }]) => dev || devOptional)).toEqual([]);
    expect(installed.map(([path]) => path)).toEqual(
      expect.arrayContaining(Object.keys(dependencies ?? {}).map((name) => `node_modules/${name}`)),
    );
  });

  test('the code, its bundle, the migrations and the targets, and nothing else of the repository', () => {
    expect(readdirSync(image.folder).toSorted()).toEqual([
      'bin',
      'dist',
      'drizzle',
      'node_modules',
      'package.json',
      'src',
      'targets.json',
      'targets.schema.json',
    ]);
    expect(existsSync(join(image.folder, 'dist/bundle/worker-main.js'))).toBe(true);
  });
});

const ADMIN_SECRET = 'a secret of more than sixteen characters';

test('the migration runs with what docker-compose.yml gives it', async () => {
  const { command, environment } = readCompose().services.migrate ?? {};
  const env = { ...environment, ADMIN_SECRET, DATABASE_URL: database.url, REDIS_URL: redis.url };
  const sql = postgres(database.url, { max: 1, onnotice: () => {} });
  await sql`DROP SCHEMA IF EXISTS infill CASCADE`;

  const migrate = startInImage(image, command ?? [], env);
  started.push(migrate);

  expect(await migrate.ended, migrate.output()).toBe(0);
  const tables = await sql`SELECT table_name FROM information_schema.tables WHERE table_schema = 'infill'`;
  await sql.end();
  expect(tables.map((row) => row.table_name)).toContain('runs');
});

describe.each([
  { file: 'Dockerfile.api', portVariable: 'PORT' },
  { file: 'Dockerfile.worker', portVariable: 'WORKER_PORT' },
])('the command of $file', ({ file, portVariable }) => {
  test('starts, becomes ready, is healthy, and stops when asked to', async () => {
    const port = await freePort();
    const env = {
      DATABASE_URL: database.url,
      REDIS_URL: redis.url,
      ADMIN_SECRET,
      [portVariable]: String(port),
    };

    const process = startInImage(image, execForm(lastOf(readImage(file), 'CMD')) ?? [], env);
    started.push(process);

    const outcome = await Promise.race([ready(port), process.ended.then((code) => `ended with ${code}`)]);
    expect(outcome, process.output()).toBe('ready');
    expect(await healthCheck(file, { [portVariable]: String(port) })).toBe('healthy');

    expect(await process.stop(), process.output()).toBe(0);
    expect(await healthCheck(file, { [portVariable]: String(port) })).toBe('unhealthy');
  });
});

/** Resolves when `/readyz` says 200. */
async function ready(port: number): Promise<'ready'> {
  const ask = async () => expect((await fetch(`http://127.0.0.1:${port}/readyz`)).status).toBe(200);
  await vi.waitFor(ask, { timeout: READY_TIMEOUT_MS, interval: 100 });
  return 'ready';
}

/** Runs an image's health check on this machine, with this machine's wget. */
async function healthCheck(file: string, env: Record<string, string>): Promise<'healthy' | 'unhealthy'> {
  const command = lastOf(readImage(file), 'HEALTHCHECK').text.replace(/^CMD /, '');
  return promisify(execFile)('/bin/sh', ['-c', command], {
    env: { PATH: '/usr/local/bin:/usr/bin:/bin', ...env },
  }).then(
    () => 'healthy',
    () => 'unhealthy',
  );
}
