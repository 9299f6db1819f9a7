/** Many small tenants, some medium ones and a whale that comes first: how long the small ones wait. */
import { median, printTable, quantile, round } from './report.ts';
import { addRows, inWorld, type World } from './world.ts';

const SLOTS = 40;
const BATCH_ROWS = 10;
const SMALL = { tenants: 300, rows: 20 };
const MEDIUM = { tenants: 20, rows: 300 };
const WHALE_ROWS = 20_000;
const ROUNDS = 3;
/** Long enough that the slots are what is short, and not this machine's cores. */
const LATENCY_MS = 800;

export async function fairness(): Promise<void> {
  const provider = {
    keys: [{ key: 'sk-bench-platform-key', organization: 'org-platform' }],
    latency: { fixedMs: LATENCY_MS },
  };
  await inWorld(
    { workers: 1, slots: SLOTS, dimensions: 64, provider, env: { PACING_START_FRACTION: '100' } },
    async (world) => {
      const without: number[][] = [];
      const beside: number[][] = [];
      for (let turn = 0; turn < ROUNDS; turn++) {
        without.push(await timesOfSmall(world, false));
        beside.push(await timesOfSmall(world, true));
      }
      const of = (all: number[][], share: number) => median(all.map((times) => quantile(times, share)));
      printTable(
        `Fairness: ${SMALL.tenants} small tenants (${SMALL.rows} rows), ${MEDIUM.tenants} medium (${MEDIUM.rows}), a whale (${WHALE_ROWS}) that comes first; ${SLOTS} slots`,
        ['small tenants', 'p50, s', 'p95, s', 'max, s'],
        [
          ['without the whale', ...[0.5, 0.95, 1].map((share) => round(of(without, share), 1))],
          ['with the whale', ...[0.5, 0.95, 1].map((share) => round(of(beside, share), 1))],
          ['ratio', ...[0.5, 0.95, 1].map((share) => round(of(beside, share) / of(without, share), 2))],
        ],
      );
    },
  );
}

/** Seconds from the start of the run to the end of each small tenant. */
async function timesOfSmall(world: World, withWhale: boolean): Promise<number[]> {
  const { sql } = world;
  await sql`TRUNCATE notes`;
  // Tenants are planned in the order of their ids: the whale is the first.
  if (withWhale) await addRows(sql, 'a whale', WHALE_ROWS);
  for (let tenant = 0; tenant < MEDIUM.tenants; tenant++) await addRows(sql, `medium ${tenant}`, MEDIUM.rows);
  for (let tenant = 0; tenant < SMALL.tenants; tenant++) await addRows(sql, `small ${tenant}`, SMALL.rows);
  await sql`VACUUM ANALYZE notes`;

  const runId = await world.start(`?batchSize=${BATCH_ROWS}`);
  for (;;) {
    const ends = await sql<{ seconds: number }[]>`
      SELECT extract(epoch FROM t.settled_at - r.started_at)::float8 AS seconds
        FROM infill.run_tenants t JOIN infill.runs r ON r.run_id = t.run_id
       WHERE t.run_id = ${runId} AND starts_with(t.tenant_id, 'small') AND t.settled_at IS NOT NULL`;
    if (ends.length === SMALL.tenants) {
      const { generation } = await world.run(runId);
      if (generation !== 1) throw new Error(`nothing failed, yet the run was planned ${generation} times`);
      if (withWhale) await world.cancel(runId);
      else await world.settled(runId);
      return ends.map(({ seconds }) => seconds);
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
