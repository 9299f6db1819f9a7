import { afterEach, expect, test } from 'vitest';
import { openRedisServers, type RedisServer, type RedisServers } from '../support/redis-servers.ts';
import { type System, startSystem, until } from '../support/system.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';

const ROWS = 2_000;
const TENANTS = 5;
/** What the specification gives a failover to heal in. */
const HEAL_MS_MAX = 30_000;

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

async function openServers(): Promise<RedisServers> {
  const servers = await openRedisServers();
  closing.push(() => servers.close());
  return servers;
}

async function startOn(env: Record<string, string>): Promise<System> {
  const system = await startSystem({ workers: 2, env, openai: { latency: { fixedMs: 20 } } });
  closing.push(() => system.close());
  await system.addRows(
    Array.from({ length: ROWS }, (_, n) => ({ tenant: `tenant ${n % TENANTS}`, text: `note ${n}` })),
  );
  return system;
}

/** Starts a run and waits until some of its rows are written, and most are not. */
async function runInTheMiddle(system: System): Promise<string> {
  const { body } = await system.call('POST', '/api/v1/admin/backfill-embeddings?batchSize=10');
  await until(async () => (await embedded(system)) > ROWS / 20, 'some rows are written');
  return body.runId;
}

async function embedded({ sql }: System): Promise<number> {
  const [row] = await sql<{ count: number }[]>`SELECT count(embedding)::int AS count FROM notes`;
  return row?.count ?? 0;
}

/** Waits until rows are written again, and then for the end of the run. */
async function expectHealed(system: System, runId: string): Promise<void> {
  const atMs = Date.now();
  const before = await embedded(system);
  await until(
    async () => (await embedded(system)) > Math.min(before, ROWS - 1),
    'rows are written again',
    undefined,
    HEAL_MS_MAX,
  );
  expect(Date.now() - atMs).toBeLessThan(HEAL_MS_MAX);
  expect(await system.settled(runId)).toMatchObject({
    status: 'succeeded',
    rows: { embedded: ROWS, failed: 0, remaining: 0 },
  });
  await until(async () => (await system.call('GET', '/readyz')).status === 200, 'the API is ready again');
}

async function replicaOf(servers: RedisServers, primary: RedisServer): Promise<RedisServer> {
  const replica = await servers.start(`replicaof 127.0.0.1 ${primary.port}`);
  await until(
    async () => (await replica.client.info('replication')).includes('master_link_status:up'),
    'the replica follows',
  );
  return replica;
}

test('a run succeeds on a cluster of three nodes', async () => {
  const servers = await openServers();
  const nodes: RedisServer[] = [];
  for (let n = 0; n < 3; n++) {
    nodes.push(await servers.start('cluster-enabled yes', `cluster-config-file nodes-${n}.conf`));
  }
  const [first, ...others] = nodes;
  const slots = [0, 5_461, 10_923, 16_384];
  for (const [n, node] of nodes.entries()) {
    await node.client.call('CLUSTER', 'ADDSLOTSRANGE', String(slots[n]), String((slots[n + 1] ?? 0) - 1));
  }
  for (const node of others) await first?.client.call('CLUSTER', 'MEET', '127.0.0.1', String(node.port));
  for (const node of nodes) {
    await until(
      async () => String(await node.client.call('CLUSTER', 'INFO')).includes('cluster_state:ok'),
      'the node knows the cluster',
    );
  }

  const system = await startOn({
    REDIS_MODE: 'cluster',
    REDIS_URL: `redis://${nodes.map(({ port }) => `127.0.0.1:${port}`).join(',')}`,
  });

  const run = await system.backfill('?batchSize=10');
  expect(run).toMatchObject({ status: 'succeeded', rows: { embedded: ROWS } });
  const sizes = await Promise.all(nodes.map((node) => node.client.dbsize()));
  expect(sizes.filter((size) => size > 0)).toHaveLength(1);
});

test('a run goes on at the new primary after a failover that the sentinels bring about', async () => {
  const servers = await openServers();
  const primary = await servers.start();
  await replicaOf(servers, primary);
  const sentinels: RedisServer[] = [];
  for (let n = 0; n < 3; n++) {
    sentinels.push(
      await servers.startSentinel(
        `sentinel monitor main 127.0.0.1 ${primary.port} 2`,
        'sentinel down-after-milliseconds main 1000',
        'sentinel failover-timeout main 5000',
      ),
    );
  }
  for (const { client } of sentinels) {
    await until(async () => {
      const told = (await client.call('SENTINEL', 'MASTER', 'main')) as Record<string, string> | string[];
      const fields = Array.isArray(told) ? told : Object.entries(told).flat();
      const of = (name: string) => Number(fields[fields.indexOf(name) + 1]);
      return of('num-slaves') === 1 && of('num-other-sentinels') === 2;
    }, 'the sentinels know each other and the replica');
  }
  const system = await startOn({
    REDIS_MODE: 'sentinel',
    REDIS_SENTINEL_NAME: 'main',
    REDIS_URL: `redis://${sentinels.map(({ port }) => `127.0.0.1:${port}`).join(',')}`,
  });
  const runId = await runInTheMiddle(system);

  await primary.kill();

  await expectHealed(system, runId);
});

test('a run goes on at the new primary after a managed failover, though the old one keeps its connections', async () => {
  const servers = await openServers();
  const primary = await servers.start();
  const replica = await replicaOf(servers, primary);
  // The name that a managed service gives its primary, whichever server that is.
  const name = await startTcpProxy(primary.url);
  closing.push(() => name.close());
  const system = await startOn({ REDIS_URL: name.url });
  const runId = await runInTheMiddle(system);

  // From now on new connections lead to the new primary; those to the old one, which is a replica now, stay.
  await replica.client.replicaof('NO', 'ONE');
  name.leadTo(replica.url);
  await primary.client.replicaof('127.0.0.1', replica.port);

  await expectHealed(system, runId);
});
