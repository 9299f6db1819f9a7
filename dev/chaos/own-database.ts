import postgres from 'postgres';
import { migrate } from '../../src/db/migrate.ts';

export type OwnDatabase = {
  readonly url: string;
  /** Ends every connection to it but the caller's own. Returns how many. */
  terminateBackends(): Promise<number>;
  /** Whoever is still connected is cut. The second call does nothing. */
  drop(): Promise<void>;
};

/**
 * Creates a database on the server of `adminUrl`, with pgvector and the product's schema.
 *
 * Its name is one of those that the test suite removes a day later, should this process be killed.
 */
export async function createOwnDatabase(adminUrl: string): Promise<OwnDatabase> {
  const name = `infill_test_${Math.floor(Date.now() / 1_000)}_chaos_${process.pid}`;
  const admin = postgres(adminUrl, { max: 1, onnotice: () => undefined });
  await admin.unsafe(`CREATE DATABASE ${name}`);
  const url = new URL(adminUrl);
  url.pathname = `/${name}`;

  const drop = async () => {
    await admin.unsafe(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
    await admin.end({ timeout: 2 });
  };
  try {
    const own = postgres(url.href, { max: 1, onnotice: () => undefined });
    await own`CREATE EXTENSION IF NOT EXISTS vector`;
    await own.end();
    await migrate(url.href);
  } catch (error) {
    await drop();
    throw error;
  }
  return {
    url: url.href,
    terminateBackends: async () => {
      const ended = await admin`
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = ${name} AND application_name LIKE 'infill-%'`;
      return ended.length;
    },
    drop,
  };
}
