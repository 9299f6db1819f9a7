import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import postgres from 'postgres';
import { startEmbeddedPostgres } from '../../dev/services/postgres.ts';
import { migrate } from '../../src/db/migrate.ts';

/** What a run left behind that was killed is removed by a run that starts so much later. */
const STALE_SECONDS_MIN = 24 * 60 * 60;
const NAME_PREFIX = 'infill_test_';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const CACHE = join(ROOT, 'node_modules/.cache/infill');

/** A name for the databases of this test run: the second it began, for `dropStaleDatabases`, and its process. */
export function newRunName(): string {
  return `${NAME_PREFIX}${Math.floor(Date.now() / 1_000)}_${process.pid}`;
}

/** Creates the database `name` on a real server, with pgvector and the product's schema, to copy databases from. */
export async function createTemplate(adminUrl: string, name: string): Promise<void> {
  await withConnection(adminUrl, (sql) => sql.unsafe(`CREATE DATABASE ${name}`));
  await prepare(urlOfDatabase(adminUrl, name));
}

/** Drops every database whose name begins with `prefix`, whoever is still connected. */
export async function dropDatabases(adminUrl: string, prefix: string): Promise<void> {
  await withConnection(adminUrl, async (sql) => {
    for (const name of await databasesNamed(sql, prefix)) {
      await sql.unsafe(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
    }
  });
}

/** Drops what test runs left behind that ended without their teardown, a day ago or earlier. */
export async function dropStaleDatabases(adminUrl: string): Promise<void> {
  const staleBefore = Date.now() / 1_000 - STALE_SECONDS_MIN;
  await withConnection(adminUrl, async (sql) => {
    for (const name of await databasesNamed(sql, NAME_PREFIX)) {
      const began = Number(name.slice(NAME_PREFIX.length).split('_')[0]);
      if (began < staleBefore) await sql.unsafe(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
    }
  });
}

/** Copies a real server's template to the database `name` and returns its URL. */
export async function copyTemplate(adminUrl: string, template: string, name: string): Promise<string> {
  await withConnection(adminUrl, (sql) => sql.unsafe(`CREATE DATABASE ${name} TEMPLATE ${template}`));
  return urlOfDatabase(adminUrl, name);
}

/**
 * Returns the data folder that embedded databases are copied from, with pgvector and the product's schema.
 *
 * Creating it takes 5 s, so it is kept under node_modules until PGlite or the migrations change.
 */
export async function templateFolder(): Promise<string> {
  const kept = join(CACHE, `template-${await templateKey()}`);
  if (existsSync(kept)) return kept;
  await removeStaleTemplates();

  const building = `${kept}.${process.pid}`;
  await mkdir(CACHE, { recursive: true });
  const server = await startEmbeddedPostgres({ folder: building });
  try {
    await prepare(server.url);
  } finally {
    await server.close();
  }
  // Renamed when whole. Of two runs that build it at once, the later finds it there and has built in vain.
  await rename(building, kept).catch(() => rm(building, { recursive: true, force: true }));
  return kept;
}

/** Changes whenever another template would come out. */
async function templateKey(): Promise<string> {
  const hash = createHash('sha256');
  hash.update(await readFile(join(ROOT, 'node_modules/@electric-sql/pglite/package.json')));
  hash.update(await readFile(join(ROOT, 'src/db/migrate.ts')));
  const migrations = await readdir(join(ROOT, 'drizzle'), { recursive: true });
  for (const name of migrations.filter((each) => /\.(sql|json)$/.test(each)).toSorted()) {
    hash.update(name).update(await readFile(join(ROOT, 'drizzle', name)));
  }
  return hash.digest('hex').slice(0, 16);
}

async function removeStaleTemplates(): Promise<void> {
  for (const name of existsSync(CACHE) ? await readdir(CACHE) : []) {
    const { mtimeMs } = await stat(join(CACHE, name));
    if (mtimeMs < Date.now() - STALE_SECONDS_MIN * 1_000)
      await rm(join(CACHE, name), { recursive: true, force: true });
  }
}

async function prepare(databaseUrl: string): Promise<void> {
  await withConnection(databaseUrl, (sql) => sql`CREATE EXTENSION IF NOT EXISTS vector`);
  await migrate(databaseUrl);
}

async function databasesNamed(sql: postgres.Sql, prefix: string): Promise<string[]> {
  const rows = await sql<{ name: string }[]>`
    SELECT datname AS name FROM pg_database WHERE starts_with(datname, ${prefix})`;
  return rows.map((row) => row.name);
}

function urlOfDatabase(adminUrl: string, name: string): string {
  const url = new URL(adminUrl);
  url.pathname = `/${name}`;
  return url.href;
}

async function withConnection<T>(url: string, use: (sql: postgres.Sql) => Promise<T>): Promise<T> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    return await use(sql);
  } finally {
    await sql.end();
  }
}
