/** Sixteen tenants whose own accounts take 50 s an answer, on a worker of sixteen slots: what they cost the others. */
import { setTimeout as sleep } from 'node:timers/promises';
import { median, printTable, round } from './report.ts';
import { addRows, inWorld, PLATFORM_KEY, type World } from './world.ts';

const SLOTS = 16;
const SLOW = Array.from({ length: 16 }, (_, index) => `a slow tenant ${index}`);
const SLOW_MS = 50_000;
const SLOW_ROWS = 100;
const QUICK_TENANTS = 10;
const QUICK_ROWS = 640;
const BATCH_ROWS = 10;
/** Long enough that the slots are what is short, and not this machine's cores. */
const LATENCY_MS = 500;
const ROUNDS = Number(process.env.R ?? 3);

const keyOf = (tenant: string) => `sk-bench-${tenant.replaceAll(' ', '-')}`;

export async function slowAccounts(): Promise<void> {
  const provider = {
    keys: [
      { key: PLATFORM_KEY, organization: 'org-platform' },
      ...SLOW.map((tenant) => ({ key: keyOf(tenant), organization: `org ${tenant}`.replaceAll(' ', '-') })),
    ],
    latency: { fixedMs: LATENCY_MS },
    faults: SLOW.map((tenant) => ({
      when: { key: keyOf(tenant) },
      action: { kind: 'delay' as const, delayMs: SLOW_MS },
    })),
  };
  const alone: number[] = [];
  const beside: number[] = [];
  for (let turn = 0; turn < ROUNDS; turn++) {
    // A world a round: nobody knows yet which accounts are slow.
    await inWorld({ workers: 1, slots: SLOTS, dimensions: 64, provider }, async (world) => {
      for (const tenant of SLOW) await world.giveKey(tenant, keyOf(tenant));
      alone.push(await timeOfQuick(world, false));
      beside.push(await timeOfQuick(world, true));
    });
  }
  printTable(
    `${QUICK_TENANTS} quick tenants (${QUICK_ROWS} rows) alone and beside ${SLOW.length} of ${SLOW_MS / 1_000} s an answer; medians of ${ROUNDS}`,
    ['alone, s', 'beside the slow ones, s', 'ratio'],
    [
      [
        round(median(alone), 1),
        round(median(beside), 1),
        round(median(beside.map((seconds, turn) => seconds / (alone[turn] ?? Number.NaN))), 2),
      ],
    ],
    'slow-accounts',
  );
}

async function timeOfQuick(world: World, withSlow: boolean): Promise<number> {
  const { sql } = world;
  await sql`TRUNCATE notes`;
  if (withSlow) for (const tenant of SLOW) await addRows(sql, tenant, SLOW_ROWS);
  for (let tenant = 0; tenant < QUICK_TENANTS; tenant++) await addRows(sql, `quick ${tenant}`, QUICK_ROWS);
  await sql`VACUUM ANALYZE notes`;
  const runId = await world.start(`?batchSize=${BATCH_ROWS}`);
  for (;;) {
    const [{ settled, seconds }] = await sql<[{ settled: number; seconds: number }]>`
      SELECT count(t.settled_at)::int AS settled, extract(epoch FROM max(t.settled_at) - min(r.started_at))::float8 AS seconds
        FROM infill.run_tenants t JOIN infill.runs r ON r.run_id = t.run_id
       WHERE t.run_id = ${runId} AND starts_with(t.tenant_id, 'quick')`;
    if (settled === QUICK_TENANTS) {
      if (!withSlow) await world.settled(runId);
      return seconds;
    }
    await sleep(100);
  }
}
