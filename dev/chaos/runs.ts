/** Starts run after run on a target, as users would, for as long as the storm lasts. */
import { setTimeout as sleep } from 'node:timers/promises';
import { SETTLED_STATUSES } from '../../src/core/run.ts';
import { SeededRandom } from '../sample/random.ts';
import type { ChaosTable } from './tables.ts';
import type { World } from './world.ts';

const POLL_MS = 250;
/** A run that was paused is resumed after this long, should nobody have done so. */
const PAUSED_MS_MAX = 4_000;
/** How long a run of the storm is watched before the next one is tried: it may be held, or wait for something. */
const WATCH_MS_MAX = 40_000;

export async function driveRuns(
  world: World,
  table: ChaosTable,
  seed: number,
  signal: AbortSignal,
): Promise<void> {
  const random = new SeededRandom(`runs ${seed} ${table.name}`);
  while (!signal.aborted) {
    const tenants = world.tenants.map(({ id }) => id).filter(() => random.next() < 0.7);
    const count = random.integer(50, 300);
    const query = drawQuery(random, table, tenants);
    await attempt(() => (tenants.length === 0 ? Promise.resolve() : world.rows.add(table, tenants, count)));
    const runId = await startRun(world, query, `${seed}-${table.name}-${random.next()}`);
    if (runId !== undefined) await watch(world, runId, signal);
    await sleep(random.integer(100, 1_500), undefined, { signal }).catch(() => undefined);
  }
}

function drawQuery(random: SeededRandom, table: ChaosTable, tenants: readonly string[]): string {
  const query = new URLSearchParams({ target: table.name, batchSize: String(random.integer(1, 40)) });
  const chance = random.next();
  if (chance < 0.15) query.set('dryRun', 'true');
  if (chance > 0.85) query.set('limit', String(random.integer(1, 80)));
  if (chance > 0.7 && chance < 0.8) query.set('maxTokens', String(random.integer(100, 3_000)));
  if (chance > 0.4 && chance < 0.6)
    for (const tenant of tenants.slice(0, 3)) query.append('tenantId', tenant);
  return query.toString();
}

/**
 * Starts a run, asking again with the same idempotency key when no answer came. Returns the id of the run that is at work
 * on the target afterwards: this one, or the one that was in the way.
 */
async function startRun(
  { admin }: World,
  query: string,
  idempotencyKey: string,
): Promise<string | undefined> {
  for (let tries = 0; tries < 3; tries++) {
    const answer = await admin.call('POST', `/backfill-embeddings?${query}`, {
      headers: { 'idempotency-key': idempotencyKey },
    });
    if (answer.status === 200 || answer.status === 202 || answer.status === 409) return answer.body?.runId;
    await sleep(500);
  }
  return undefined;
}

async function watch(world: World, runId: string, signal: AbortSignal): Promise<void> {
  let pausedAtMs: number | undefined;
  for (const deadlineMs = Date.now() + WATCH_MS_MAX; Date.now() < deadlineMs && !signal.aborted; ) {
    const status = await statusOf(world, runId);
    if (status === undefined || (SETTLED_STATUSES as readonly string[]).includes(status)) return;
    pausedAtMs = status === 'paused' ? (pausedAtMs ?? Date.now()) : undefined;
    if (pausedAtMs !== undefined && Date.now() - pausedAtMs > PAUSED_MS_MAX)
      await world.admin.call('POST', `/backfill-embeddings/${runId}/resume`);
    await sleep(POLL_MS, undefined, { signal }).catch(() => undefined);
  }
}

async function statusOf({ sql }: World, runId: string): Promise<string | undefined> {
  const [run] = await sql<{ status: string }[]>`SELECT status FROM infill.runs WHERE run_id = ${runId}`;
  return run?.status;
}

/** The monkey may hold a lock for longer than a statement of ours waits. */
async function attempt(work: () => Promise<void>): Promise<void> {
  await work().catch(() => undefined);
}
