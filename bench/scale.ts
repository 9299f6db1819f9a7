/** What many tenants, many rows and few rows cost: time to the first row and to the end, and CPU a batch. */
import { setTimeout as sleep } from 'node:timers/promises';
import { cpuMs, residentMiB } from './process-figures.ts';
import { median, printTable, quantile, round } from './report.ts';
import { watchServices } from './service-figures.ts';
import { addRows, inWorld, type World } from './world.ts';

const SLOTS = 16;
const LATENCY_MS = 100;
const provider = { latency: { fixedMs: LATENCY_MS } };
/** So that no limit is what is measured. */
const env = { PACING_START_FRACTION: '100' };

export async function scale(): Promise<void> {
  await few();
  await tenants();
  await large(1_000_000);
}

/** As many batches of three rows each, of ten tenants and of ten thousand. */
export async function tenants(): Promise<void> {
  const batches = Number(process.env.BATCHES ?? 10_000);
  const rows: (string | number)[][] = [];
  for (const tenantCount of [10, batches]) {
    await inWorld({ workers: 1, slots: SLOTS, dimensions: 64, provider, env }, async (world) => {
      const each = (batches * 3) / tenantCount;
      await addTenants(world, tenantCount, each);
      const pid = world.workers[0]?.pid ?? 0;
      const services = await watchServices(world);
      const cpuBefore = cpuMs(pid);
      const { firstRowMs, runId } = await startAndSeeFirstRow(world, '?batchSize=3');
      const run = await world.settled(runId);
      if (run.rows.embedded !== batches * 3) throw new Error(`not all rows: ${JSON.stringify(run)}`);
      const cpu = cpuMs(pid) - cpuBefore;
      const { postgresMs, redisMs } = await services.stop();
      const ideal = ((batches / SLOTS) * LATENCY_MS) / 1_000;
      const seconds = (Date.parse(run.settledAt) - Date.parse(run.createdAt)) / 1_000;
      rows.push([
        tenantCount,
        each,
        round(firstRowMs / 1_000, 2),
        round(seconds, 1),
        round(ideal, 1),
        round(seconds / ideal, 2),
        ...[cpu, postgresMs, redisMs].map((ms) => round(ms / batches, 2)),
      ]);
    });
  }
  printTable(
    `${batches} batches of three rows, one worker of ${SLOTS} slots, ${LATENCY_MS} ms an answer`,
    [
      'tenants',
      'rows each',
      'first row, s',
      'settled, s',
      'ideal, s',
      'ratio',
      "worker's CPU ms a batch",
      "Postgres'",
      "Redis'",
    ],
    rows,
    'scale-tenants',
  );
}

const LARGE_TENANTS = 20;
const LARGE_BATCH = 500;
const LARGE_WATCH_MS = 15_000;

/** A table of many missing rows: the first of them, and the rate of the first seconds. */
export async function large(rows: number): Promise<void> {
  await inWorld({ workers: 1, slots: SLOTS, dimensions: 16, provider, env }, async (world) => {
    await addTenants(world, LARGE_TENANTS, rows / LARGE_TENANTS);
    const pid = world.workers[0]?.pid ?? 0;
    const { firstRowMs, runId } = await startAndSeeFirstRow(world, `?batchSize=${LARGE_BATCH}`);
    const resident: number[] = [];
    const embedded = async () => (await world.run(runId)).rows.embedded as number;
    const before = { atMs: performance.now(), rows: await embedded() };
    while (performance.now() - before.atMs < LARGE_WATCH_MS) {
      resident.push(residentMiB(pid));
      await sleep(200);
    }
    const rate = (((await embedded()) - before.rows) / (performance.now() - before.atMs)) * 1_000;
    await world.cancel(runId);
    printTable(
      `${rows} missing rows of ${LARGE_TENANTS} tenants, 16 dimensions, ${LARGE_BATCH} rows a batch`,
      ['rows', 'first row, s', `rows/s of the ${LARGE_WATCH_MS / 1_000} s after`, 'resident p95, MiB'],
      [[rows, round(firstRowMs / 1_000, 2), round(rate), round(quantile(resident, 0.95))]],
      `scale-${rows}`,
    );
  });
}

const FEW = { tenants: 7, rows: 382, rounds: 5 };

/** A gap of everyday size. */
export async function few(): Promise<void> {
  await inWorld({ workers: 1, slots: SLOTS, dimensions: 1_536, provider, env }, async (world) => {
    const first: number[] = [];
    const settled: number[] = [];
    for (let turn = 0; turn <= FEW.rounds; turn++) {
      await world.sql`TRUNCATE notes`;
      for (let tenant = 0; tenant < FEW.tenants; tenant++) {
        const extra = tenant < FEW.rows % FEW.tenants ? 1 : 0;
        await addRows(world.sql, `tenant ${tenant}`, Math.floor(FEW.rows / FEW.tenants) + extra);
      }
      const { firstRowMs, runId } = await startAndSeeFirstRow(world, '');
      const run = await world.settled(runId);
      // The first turn opens connections and compiles.
      if (turn === 0) continue;
      first.push(firstRowMs / 1_000);
      settled.push((Date.parse(run.settledAt) - Date.parse(run.createdAt)) / 1_000);
    }
    printTable(
      `${FEW.rows} rows of ${FEW.tenants} tenants, 1,536 dimensions, ${LATENCY_MS} ms an answer; medians of ${FEW.rounds}`,
      ['first row, s', 'settled, s'],
      [[round(median(first), 2), round(median(settled), 2)]],
      'scale-few',
    );
  });
}

async function addTenants({ sql }: World, tenantCount: number, each: number): Promise<void> {
  await sql`
    INSERT INTO notes (tenant_id, content)
    SELECT 'tenant ' || lpad(t::text, 6, '0'), 'insight ' || t || ' ' || n
      FROM generate_series(1, ${tenantCount}::int) AS t, generate_series(1, ${each}::int) AS n`;
  await sql`VACUUM ANALYZE notes`;
}

/** Seconds from the POST to the first row that has its vector. Looks at the first rows of the tenants that come first. */
async function startAndSeeFirstRow(
  world: World,
  query: string,
): Promise<{ firstRowMs: number; runId: string }> {
  const { sql } = world;
  const firstIds = await sql<{ id: string }[]>`
    SELECT min(id) AS id FROM notes GROUP BY tenant_id ORDER BY tenant_id LIMIT 50`;
  const ids = firstIds.map(({ id }) => id);
  const startedMs = performance.now();
  const runId = await world.start(query);
  for (;;) {
    const seen =
      await sql`SELECT FROM notes WHERE id = ANY(${ids}::bigint[]) AND embedding IS NOT NULL LIMIT 1`;
    if (seen.length > 0) return { firstRowMs: performance.now() - startedMs, runId };
    if (performance.now() - startedMs > 600_000) throw new Error('no row was embedded in ten minutes');
    await sleep(5);
  }
}
