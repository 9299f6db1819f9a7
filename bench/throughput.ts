import { cpuMs } from './process-figures.ts';
import { printTable, round } from './report.ts';
import { addRows, inWorld } from './world.ts';

const ROWS = 10_000;
const TENANTS = 10;
const SLOTS = 16;

const CASES = [
  { dimensions: 256, batchSize: 50 },
  { dimensions: 256, batchSize: 500 },
  { dimensions: 1_536, batchSize: 50 },
  { dimensions: 1_536, batchSize: 500 },
] as const;

/** Rows a second from end to end, by one worker, when no limit holds it back. */
export async function throughput(): Promise<void> {
  const rows: (string | number)[][] = [];
  for (const { dimensions, batchSize } of CASES) {
    await inWorld({ workers: 1, slots: SLOTS, dimensions }, async (world) => {
      const pid = world.workers[0]?.pid ?? 0;
      // A first small run, so that connections are open and code is compiled.
      await addRows(world.sql, 'warm', 500);
      await world.settled(await world.start(`?batchSize=${batchSize}`));
      for (let tenant = 0; tenant < TENANTS; tenant++)
        await addRows(world.sql, `tenant ${tenant}`, ROWS / TENANTS);

      const cpuBefore = cpuMs(pid);
      const run = await world.settled(await world.start(`?batchSize=${batchSize}`));
      if (run.rows.embedded !== ROWS)
        throw new Error(`the run was to embed ${ROWS} rows: ${JSON.stringify(run)}`);
      const seconds = (Date.parse(run.settledAt) - Date.parse(run.createdAt)) / 1_000;
      const cpu = (cpuMs(pid) - cpuBefore) / (ROWS / 1_000);
      rows.push([dimensions, batchSize, round(seconds, 1), round(ROWS / seconds), round(cpu), run.requests]);
    });
  }
  printTable(
    `Throughput: ${ROWS} rows of ${TENANTS} tenants, one worker of ${SLOTS} slots, no limits`,
    ['dimensions', 'batchSize', 'seconds', 'rows/s', "worker's CPU ms / 1,000 rows", 'requests'],
    rows,
  );
}
