import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startProcess } from '../support/process.ts';
import { openRedisServers, type RedisServers } from '../support/redis-servers.ts';
import { type System, startSystem } from '../support/system.ts';

let servers: RedisServers;
const systems: System[] = [];

beforeAll(async () => {
  servers = await openRedisServers();
});
afterAll(async () => {
  for (const system of systems) await system.close();
  await servers.close();
});

async function startOn(redisUrl: string, prefix: string, workers: number): Promise<System> {
  const system = await startSystem({ workers, env: { REDIS_URL: redisUrl, REDIS_PREFIX: prefix } });
  systems.push(system);
  return system;
}

describe('two installations on one Redis', () => {
  test('fill their own tables only, and write under their own prefix only', async () => {
    const { url, client } = await servers.start();
    const both = [await startOn(url, 'production', 1), await startOn(url, 'staging', 1)];
    for (const system of both) {
      await system.addRows(
        Array.from({ length: 300 }, (_, n) => ({ tenant: `tenant ${n % 3}`, text: `note ${n}` })),
      );
    }

    const runs = await Promise.all(both.map((system) => system.backfill('?batchSize=10')));

    for (const run of runs)
      expect(run).toMatchObject({ status: 'succeeded', rows: { embedded: 300, failed: 0 } });
    const names = await client.keys('*');
    expect(names.filter((name) => !/^\{(production|staging)\}:/.test(name))).toEqual([]);
    expect(new Set(names.map((name) => name.split(':')[0]))).toEqual(new Set(['{production}', '{staging}']));
  });

  test('are refused at start where the second has the prefix of the first', async () => {
    const { url } = await servers.start();
    const first = await startOn(url, 'infill', 0);
    const second = await startSystem({ api: false, workers: 0, env: { REDIS_URL: url } });
    systems.push(second);
    // The databases of tests are copies of one.
    await second.sql`UPDATE infill.installation SET installation_id = gen_random_uuid()`;
    expect((await first.call('GET', '/readyz')).status).toBe(200);

    const processes = ['src/api.ts', 'src/worker.ts'].map((entry) => startProcess(entry, second.env));
    expect(await Promise.all(processes.map(({ ended }) => ended))).toEqual([1, 1]);

    for (const said of processes.map(({ output }) => output())) {
      expect(said).toContain(
        'Redis is not usable: its keys under "{infill}" belong to another database of Infill',
      );
      expect(said).not.toMatch(/^\s+at /m);
    }
    expect((await first.call('GET', '/readyz')).status).toBe(200);
  });
});
