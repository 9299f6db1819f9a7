import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { announceSlots } from '../../src/pacing/worker-slots.ts';
import { openRedis, type RedisConnection } from '../../src/queue/redis.ts';
import { claimRedis, RedisOwnedByOther } from '../../src/queue/redis-owner.ts';
import { openRedisServers, type RedisServers } from '../support/redis-servers.ts';
import { until } from '../support/system.ts';

const OWN = '018f4e2a-0000-7000-8000-000000000001';
const OTHER = '018f4e2a-0000-7000-8000-000000000002';
let servers: RedisServers;

beforeAll(async () => {
  servers = await openRedisServers();
});
afterAll(() => servers.close());

const connect = (url: string): RedisConnection =>
  openRedis(
    { url, mode: 'standalone', sentinelName: undefined },
    { commandMsMax: 2_000, onError: () => undefined },
  );

describe('the mark of a database', () => {
  test('is set by the first, found by the same, refused to another, and set again after a flush', async () => {
    const { client } = await servers.start();

    await claimRedis(client, '{infill}', OWN);
    await claimRedis(client, '{infill}', OWN);
    await expect(claimRedis(client, '{infill}', OTHER)).rejects.toThrow(RedisOwnedByOther);
    await expect(claimRedis(client, '{infill}', OTHER)).rejects.toThrow(/give each its own REDIS_PREFIX/);
    expect(await client.get('{infill}:owner')).toBe(OWN);

    await claimRedis(client, '{staging}', OTHER);
    await client.flushall();
    await claimRedis(client, '{infill}', OTHER);
    expect(await client.get('{infill}:owner')).toBe(OTHER);
  });

  test('moves with a database that was restored elsewhere, but not while a worker of the other is alive', async () => {
    const { client } = await servers.start();
    await claimRedis(client, '{infill}', `${OWN}/server-1/5`);
    await announceSlots(client, 'worker-1', 16);
    await expect(claimRedis(client, '{infill}', `${OWN}/server-2/5`)).rejects.toThrow(RedisOwnedByOther);

    await announceSlots(client, 'worker-1', 0);
    await claimRedis(client, '{infill}', `${OWN}/server-2/5`);

    expect(await client.get('{infill}:owner')).toBe(`${OWN}/server-2/5`);
    await expect(claimRedis(client, '{infill}', `${OTHER}/server-2/5`)).rejects.toThrow(RedisOwnedByOther);
  });

  test('is left as it is by who does not know its own database, who tries a write all the same', async () => {
    const { client } = await servers.start();
    await claimRedis(client, '{infill}', OWN);

    await claimRedis(client, '{infill}', null);

    expect(await client.get('{infill}:owner')).toBe(OWN);
    await client.config('SET', 'maxmemory', '1');
    await expect(claimRedis(client, '{infill}', null)).rejects.toThrow(/it is full/);
  });
});

describe('a Redis that cannot be used says why:', () => {
  test('a replica', async () => {
    const primary = await servers.start();
    const replica = await servers.start(`replicaof 127.0.0.1 ${primary.port}`);
    await until(
      async () => (await replica.client.info('replication')).includes('link_status:up'),
      'it replicates',
    );

    await expect(claimRedis(replica.client, '{infill}', OWN)).rejects.toThrow(
      /it is a replica and takes no writes/,
    );
  });

  test('one that is full', async () => {
    const { client } = await servers.start('maxmemory 1', 'maxmemory-policy noeviction');

    await expect(claimRedis(client, '{infill}', OWN)).rejects.toThrow(/it is full: raise its maxmemory/);
  });

  test('a user without the right to the keys of the prefix', async () => {
    const server = await servers.start('user reader on >secret ~other:* +@all');
    const client = server.client.duplicate({ username: 'reader', password: 'secret' });

    await expect(claimRedis(client, '{infill}', OWN)).rejects.toThrow(/may not use the keys of Infill/);
    client.disconnect();
  });

  test.each([
    ['no password where one is wanted', (port: number) => `redis://127.0.0.1:${port}`, 'it wants a password'],
    [
      'a wrong password',
      (port: number) => `redis://:wrong@127.0.0.1:${port}`,
      'it refuses the user or the password',
    ],
    [
      'a database that does not exist',
      (port: number) => `redis://:right@127.0.0.1:${port}/99`,
      'it has no database of the number',
    ],
    [
      'TLS where there is none',
      (port: number) => `rediss://:right@127.0.0.1:${port}`,
      'whether it speaks TLS (rediss://) or not',
    ],
  ])('%s', async (_what, urlOf, words) => {
    const server = await servers.start();
    await server.client.config('SET', 'requirepass', 'right');
    const connection = connect(urlOf(server.port));

    await until(async () => {
      const refusal = await claimRedis(connection.redis, '{infill}', OWN).then(
        () => '',
        (error: Error) => error.message,
      );
      return `${connection.trouble()} ${refusal}`.includes(words);
    }, `it says "${words}"`);
    connection.redis.disconnect();
  });
});
