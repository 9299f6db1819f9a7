import { randomBytes } from 'node:crypto';
import { cpSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { inject } from 'vitest';
import { startEmbeddedPostgres } from '../../dev/services/postgres.ts';
import { startEmbeddedRedis } from '../../dev/services/redis.ts';
import { leaseRedisDatabase } from './redis-lease.ts';
import { copyTemplate, dropDatabases } from './template-database.ts';

export type TestService = { readonly url: string; close(): Promise<void> };

/**
 * Gives a test file a database of its own with pgvector and the product's schema, and no rows.
 *
 * On the server of `TEST_DATABASE_URL`, or embedded, which takes about 1 s. Call it in `beforeAll`, close it in
 * `afterAll`; connections that are still open then are cut.
 */
export async function createTestDatabase(): Promise<TestService> {
  const { databaseUrl, runName, folder, template, templateFailure } = inject('testServices');
  if (template === null) throw new Error(`the template database could not be made: ${templateFailure}`);
  const name = `${runName}_${randomBytes(4).toString('hex')}`;

  if (databaseUrl !== null) {
    return {
      url: await copyTemplate(databaseUrl, template, name),
      close: () => dropDatabases(databaseUrl, name),
    };
  }

  const data = join(folder, name);
  // Not `cp`, which takes several times as long for so many files.
  cpSync(template, data, { recursive: true });
  const server = await startEmbeddedPostgres({ folder: data, discard: true });
  return {
    url: server.url,
    async close() {
      await server.close();
      await rm(data, { recursive: true, force: true });
    },
  };
}

/**
 * Gives a test file an empty Redis that nobody else uses: a database number of the server of `TEST_REDIS_URL`, or a
 * `redis-server` of its own. Call it in `beforeAll`, close it in `afterAll`.
 */
export async function createTestRedis(): Promise<TestService> {
  const { redisUrl } = inject('testServices');
  return redisUrl === null ? startEmbeddedRedis() : leaseRedisDatabase(redisUrl);
}
