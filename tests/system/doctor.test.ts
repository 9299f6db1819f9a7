import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openRedisServers, type RedisServer, type RedisServers } from '../support/redis-servers.ts';
import { type System, startSystem, until } from '../support/system.ts';

let servers: RedisServers;
let redis: RedisServer;
let system: System;

beforeAll(async () => {
  servers = await openRedisServers();
  redis = await servers.start();
  system = await startSystem({
    workers: 0,
    proxied: true,
    withIndex: false,
    env: { REDIS_URL: redis.url, OPENAI_API_KEY: '', CREDENTIALS_KEY: '' },
    targets: {
      wide: {
        ...{ table: 'notes', id: 'id', text: ['content'], embedding: 'embedding' },
        ...{ model: 'text-embedding-3-small', dimensions: 1_536 },
      },
    },
  });
  await system.sql`CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'`;
  await system.sql`CREATE TRIGGER planted_trigger BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION planted()`;
  await system.sql`
    INSERT INTO infill.tenant_credentials (tenant_id, sealed_key, fingerprint, last4, status) VALUES ('acme', '\\x00', 'f', '0000', 'invalid')`;
  await redis.client.config('SET', 'maxmemory-policy', 'allkeys-lru');
});
afterAll(async () => {
  await system?.close();
  await servers?.close();
});

type Finding = {
  readonly name: string;
  readonly status: string;
  readonly message: string;
  readonly advice: string | null;
};

async function examine(): Promise<Finding[]> {
  const answer = await system.call('GET', '/api/v1/admin/doctor');
  expect(answer.status).toBe(200);
  return answer.body.items;
}

const named = (findings: readonly Finding[], name: string) =>
  findings.find((finding) => finding.name === name);

describe('the doctor names', () => {
  test.each([
    ['a table that is absent', 'target absent', 'warn', 'is absent', 'Create the table'],
    [
      'a column of other dimensions',
      'target wide',
      'fail',
      'expected vector(1536)',
      'Correct the table or targets.json',
    ],
    ['an index that is missing', 'target notes: index', 'warn', 'is not there', 'CREATE INDEX CONCURRENTLY'],
    [
      'a trigger',
      'target notes: triggers',
      'warn',
      'planted_trigger',
      'Look whether it changes the embedding',
    ],
    ['a Redis that throws keys away', 'redis policy', 'fail', 'allkeys-lru', 'noeviction'],
    ['that no worker is alive', 'workers', 'fail', 'No worker is alive', 'Start a worker'],
    ['keys that are dead', "tenants' keys", 'warn', '1 invalid', 'infill keys list'],
    [
      "that the platform's key is missing",
      'platform key',
      'warn',
      'OPENAI_API_KEY is not set',
      'TENANT_KEY_POLICY',
    ],
    ['that no key can be sealed', 'sealing key', 'warn', 'CREDENTIALS_KEY is not set', 'openssl rand'],
  ])('%s, and what to do', async (_what, name, status, message, advice) => {
    expect(named(await examine(), name)).toMatchObject({
      status,
      message: expect.stringContaining(message),
      advice: expect.stringContaining(advice),
    });
  });

  test('a Redis that became a replica', async () => {
    await redis.client.replicaof('127.0.0.1', '1');
    await until(
      async () =>
        named(await examine(), 'redis')?.message.includes('it is a replica and takes no writes') ?? false,
      'the doctor finds out',
    );
    await redis.client.replicaof('NO', 'ONE');
  });

  test('a database that is not migrated, and one that is away, while all the rest is looked at', async () => {
    await system.sql`ALTER SCHEMA infill RENAME TO infill_away`;
    expect(named(await examine(), 'schema')).toMatchObject({
      status: 'fail',
      advice: expect.stringContaining('npm run migrate'),
    });
    await system.sql`ALTER SCHEMA infill_away RENAME TO infill`;

    await system.proxies.postgres.cut();
    await until(
      async () => named(await examine(), 'postgres')?.message.includes('nothing listens') ?? false,
      'the doctor finds out',
    );
    await until(
      async () => named(await examine(), 'redis')?.status === 'ok',
      'Redis is looked at all the same',
    );
    await system.proxies.postgres.restore();
  });
});
