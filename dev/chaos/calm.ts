/** After the storm: everything is mended, what did not succeed is retried, and a last run fills what is left. */
import { setTimeout as sleep } from 'node:timers/promises';
import { SETTLED_STATUSES } from '../../src/core/run.ts';
import { type ChaosTable, TABLES } from './tables.ts';
import { PLATFORM_KEY, storeKey, type World } from './world.ts';

/** How long all runs together may take to their end once nothing is wrong any more. */
const SETTLE_MS_MAX = 180_000;
const POLL_MS = 250;
/** Runs retried, the newest first, of each target. */
const RETRIED_MAX = 3;
/** A last run may end incomplete once or twice: a batch of the run before may still hold its rows. */
const LAST_RUNS_MAX = 4;

export type Calm = {
  /** From the moment all was mended until the last run of the storm had settled, in milliseconds. */
  readonly healMs: number;
  /** What did not come about in time. */
  readonly failures: readonly string[];
};

export async function calmDown(world: World): Promise<Calm> {
  await mend(world);
  const mendedAtMs = Date.now();
  const deadlineMs = mendedAtMs + SETTLE_MS_MAX;
  const failures: string[] = [];
  let healMs = 0;
  await Promise.all(
    TABLES.map(async (table) => {
      try {
        await settleAll(world, table, deadlineMs);
        healMs = Math.max(healMs, Date.now() - mendedAtMs);
        await retrySome(world, table, deadlineMs);
        await lastRun(world, table, deadlineMs);
      } catch (error) {
        failures.push(`${table.name}: ${(error as Error).message}`);
      }
    }),
  );
  return { healMs, failures };
}

/** Undoes whatever the monkey may have left behind. */
async function mend({ openai, proxy, admin, tenants, sql }: World): Promise<void> {
  await openai.control.clearFaults();
  // Whoever still waits for an answer that will never come is told so.
  await openai.control.setOutage('refuse');
  await openai.control.setOutage('off');
  await proxy.restore();
  for (const key of [PLATFORM_KEY, ...tenants.flatMap(({ keys }) => keys)]) {
    await openai.control.setKeyState(key, 'ok');
  }
  const owned = tenants.filter(({ keys }) => keys.length > 0);
  for (const { id, keys } of owned) {
    await until(
      () => storeKey(admin, id, keys.at(-1) ?? ''),
      Date.now() + 30_000,
      `the key of ${id} is stored`,
    );
  }
  await sql`DELETE FROM infill.switches`;
  // A run of thousands of rows that was set to one row a batch takes longer than anybody waits here.
  await sql`UPDATE infill.runs SET batch_size = 50, "window" = NULL WHERE settled_at IS NULL`;
}

async function settleAll(world: World, { name }: ChaosTable, deadlineMs: number): Promise<void> {
  await until(
    async () => {
      const [run] = await world.sql<{ runId: string; status: string }[]>`
        SELECT run_id AS "runId", status FROM infill.runs
         WHERE target = ${name} AND status NOT IN ${world.sql(SETTLED_STATUSES)}`;
      if (run?.status === 'paused')
        await world.admin.call('POST', `/backfill-embeddings/${run.runId}/resume`);
      return run === undefined;
    },
    deadlineMs,
    'every run settles',
  );
}

async function retrySome(world: World, table: ChaosTable, deadlineMs: number): Promise<void> {
  const runs = await world.sql<{ runId: string }[]>`
    SELECT run_id AS "runId" FROM infill.runs WHERE target = ${table.name} AND status <> 'succeeded'
     ORDER BY created_at DESC LIMIT ${RETRIED_MAX}`;
  for (const { runId } of runs) {
    await world.admin.call('POST', `/backfill-embeddings/${runId}/retry`);
    await settleAll(world, table, deadlineMs);
  }
}

/** Releases what was quarantined while the provider was out of its mind, and fills all that is left. */
async function lastRun(world: World, table: ChaosTable, deadlineMs: number): Promise<void> {
  await world.sql`DELETE FROM infill.quarantined_rows WHERE target = ${table.name}`;
  let reason: string | null = null;
  for (let tries = 0; tries < LAST_RUNS_MAX; tries++) {
    await until(
      async () =>
        (await world.admin.call('POST', `/backfill-embeddings?target=${table.name}`)).status === 202,
      deadlineMs,
      'the last run starts',
    );
    await settleAll(world, table, deadlineMs);
    const [run] = await world.sql<{ status: string; reason: string | null; missing: number }[]>`
      SELECT status, reason, (coverage_after->>'missing')::int AS missing FROM infill.runs
       WHERE target = ${table.name} ORDER BY created_at DESC LIMIT 1`;
    // Poisoned rows are quarantined again: a run with nothing else left has done all it could.
    if (run?.status === 'succeeded' || (run?.status === 'incomplete' && run.missing === 0)) return;
    reason = `${run?.status}: ${run?.reason}`;
  }
  throw new Error(`${LAST_RUNS_MAX} last runs did not fill everything: ${reason}`);
}

async function until(condition: () => Promise<boolean>, deadlineMs: number, what: string): Promise<void> {
  while (!(await condition())) {
    if (Date.now() > deadlineMs) throw new Error(`waited in vain: ${what}`);
    await sleep(POLL_MS);
  }
}
