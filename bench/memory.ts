/** Whether a worker's memory and the jobs in Redis grow with the number of rows. */
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { QUEUES } from '../src/queue/jobs.ts';
import { residentMiB } from './process-figures.ts';
import { median, printTable, quantile, round } from './report.ts';
import { addRows, freePort, inWorld } from './world.ts';

const CASES = [
  { rows: 5_000, dimensions: 256 },
  { rows: 100_000, dimensions: 256 },
  { rows: 5_000, dimensions: 1_536 },
  { rows: 50_000, dimensions: 1_536 },
] as const;
const TENANTS = 20;
const BATCH_ROWS = 100;

export async function memory(): Promise<void> {
  const rows: (string | number)[][] = [];
  for (const { rows: count, dimensions } of CASES) rows.push(await measure(count, dimensions));
  printTable(
    `Memory of a worker of 16 slots, ${TENANTS} tenants, ${BATCH_ROWS} rows a batch`,
    [
      'rows',
      'dimensions',
      'at start, MiB',
      'median, MiB',
      'p95, MiB',
      'last tenth, MiB',
      'heap in use, MiB',
      'jobs not ended, most',
      'jobs in Redis, most',
      'Redis, MiB at most',
    ],
    rows,
  );
}

async function measure(count: number, dimensions: number): Promise<(string | number)[]> {
  const port = String(await freePort());
  const options = { workers: 1, slots: 16, dimensions, env: { WORKER_PORT: port } };
  return inWorld(options, async (world) => {
    const pid = world.workers[0]?.pid ?? 0;
    const redis = new Redis(world.redisUrl, { maxRetriesPerRequest: null });
    const queues = Object.values(QUEUES).map(
      (name) => new Queue(name, { connection: redis, prefix: '{infill}' }),
    );
    for (let tenant = 0; tenant < TENANTS; tenant++)
      await addRows(world.sql, `tenant ${tenant}`, count / TENANTS);

    const atStart = residentMiB(pid);
    const resident: number[] = [];
    const heap: number[] = [];
    let unended = 0;
    let jobs = 0;
    let redisMiB = 0;
    const run = await world.settled(await world.start(`?batchSize=${BATCH_ROWS}`), async () => {
      resident.push(residentMiB(pid));
      heap.push(await heapInUseMiB(port));
      const counts = await Promise.all(queues.map((queue) => queue.getJobCounts()));
      const all = counts.flatMap((count) => Object.entries(count));
      const sum = (entries: [string, number][]) => entries.reduce((total, [, jobs]) => total + jobs, 0);
      jobs = Math.max(jobs, sum(all));
      unended = Math.max(unended, sum(all.filter(([state]) => state !== 'completed' && state !== 'failed')));
      const [, used] = /used_memory:(\d+)/.exec(await redis.info('memory')) ?? [];
      redisMiB = Math.max(redisMiB, Number(used) / 1_048_576);
    });
    if (run.rows.embedded !== count)
      throw new Error(`the run was to embed ${count} rows: ${JSON.stringify(run)}`);
    await Promise.all(queues.map((queue) => queue.close()));
    redis.disconnect();
    const lastTenth = resident.slice(-Math.max(1, Math.round(resident.length / 10)));
    // Its least, right after a collection, is what is really needed.
    const inUse = Math.min(...heap.slice(Math.floor(heap.length / 2)));
    const figures = [atStart, median(resident), quantile(resident, 0.95), median(lastTenth), inUse];
    return [count, dimensions, ...figures.map((figure) => round(figure)), unended, jobs, round(redisMiB, 1)];
  });
}

async function heapInUseMiB(port: string): Promise<number> {
  const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const [, bytes] = /^nodejs_heap_size_used_bytes (\S+)$/m.exec(metrics) ?? [];
  return Number(bytes) / 1_048_576;
}
