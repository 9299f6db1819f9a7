import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SeededRandom } from '../../dev/sample/random.ts';
import { type Control, controlRun } from '../../src/backfill/control-run.ts';
import type { BatchDeps } from '../../src/backfill/deps.ts';
import { planRun } from '../../src/backfill/plan-run.ts';
import { planTenant } from '../../src/backfill/plan-tenant.ts';
import { runBatch } from '../../src/backfill/run-batch.ts';
import { failRun, settleFinishedRun } from '../../src/backfill/settle.ts';
import { type StartOutcome, startRun } from '../../src/backfill/start-run.ts';
import { sweep } from '../../src/backfill/sweep.ts';
import { isSettled, type RunStatus } from '../../src/core/run.ts';
import { listUnsettledTenants } from '../../src/db/run-tenants.ts';
import { readRun } from '../../src/db/runs.ts';
import { enqueueRun } from '../../src/queue/enqueue.ts';
import { type PlanRun, planTenantId, type RunBatch } from '../../src/queue/jobs.ts';
import { frozenAt, jitter } from '../support/hooked-db.ts';
import { PROMISED_ROUNDS, raceRounds } from '../support/race-rounds.ts';
import { brokenRules } from '../support/run-invariants.ts';
import { openStory, type Story } from '../support/story.ts';
import { wrongRows } from '../support/system.ts';

/** The same races with another seed: other statements meet. */
const SEED = 4711;
/** The sweep leaves no run alone for its youth. */
const NONE_IS_YOUNG_MS = 0;
/** Of the races at random: going on to the end takes longer than the race. */
const SETTLED_EVERY = 3;
/** A move is stopped before each of its first statements in turn. One that has fewer simply starts together with the other. */
const STATEMENTS_MAX = 16;
const LOCKED_MS = 60;
const FIRST_TRY = { number: 1, isLast: false };
const never = new AbortController().signal;

let story: Story;

beforeAll(async () => {
  story = await openStory();
});
afterAll(() => story.close());

/** Where a race begins. */
type Scene = PlanRun & { readonly batches: readonly RunBatch[] };
type Move = (deps: BatchDeps, scene: Scene) => Promise<unknown>;

const control =
  (name: Control): Move =>
  async (deps, { runId }) => {
    const outcome = await controlRun(deps, runId, name, { actor: 'racer' });
    if (outcome.kind === 'busy') expect(outcome.run.runId, 'a run is not in its own way').not.toBe(runId);
  };
const MOVES = {
  pause: control('pause'),
  cancel: control('cancel'),
  resume: control('resume'),
  retry: control('retry'),
  plan: (deps, scene) => planRun(deps, scene),
  settle: (deps, scene) => settleFinishedRun(deps, scene),
  tenant: (deps, scene) => planTenant(deps, { ...scene, tenantId: 'acme' }),
  batch: (deps, { batches: [first] }) => runBatch(deps, first as RunBatch, FIRST_TRY, never),
  fail: async (deps, { runId }) => {
    const run = await readRun(deps.db, runId);
    if (run !== undefined) await failRun(deps, run, 'request_invalid');
  },
  sweep: (deps) => sweep(deps, `sweeper ${Math.random()}`, NONE_IS_YOUNG_MS),
  start: (deps) => start(deps),
  'cancel to its end': async (deps, scene) => {
    await MOVES.cancel(deps, scene);
    await planRun(deps, await present(deps, scene));
  },
  'pause and resume': async (deps, scene) => {
    for (const steer of [MOVES.pause, MOVES.resume]) {
      await steer(deps, scene);
      await planRun(deps, await present(deps, scene));
    }
  },
} as const satisfies Record<string, Move>;
type MoveName = keyof typeof MOVES;

const SCENES = {
  queued: async () => newRun(),
  'at work': async () => planned(),
  'at its end': async () => {
    const scene = await planned();
    await workOff(scene);
    return scene;
  },
  pausing: async () => steered('pause'),
  paused: async () => {
    const scene = await steered('pause');
    await planRun(story.deps, scene);
    return scene;
  },
  cancelling: async () => steered('cancel'),
  cancelled: async () => {
    const scene = await steered('cancel');
    await planRun(story.deps, scene);
    return scene;
  },
  'at work and without its jobs': async () => {
    const scene = await planned();
    await story.redis.flushdb();
    return scene;
  },
} as const satisfies Record<string, () => Promise<Scene>>;
type SceneName = keyof typeof SCENES;

/** Statuses that a race may lead to before anybody works on: what the table of transitions allows from there. */
const RACES: readonly (readonly [SceneName, MoveName, MoveName, readonly RunStatus[], number])[] = [
  ['at its end', 'pause', 'settle', ['pausing', 'succeeded'], PROMISED_ROUNDS],
  ['at its end', 'cancel', 'settle', ['cancelling', 'succeeded'], PROMISED_ROUNDS],
  ['at its end', 'settle', 'settle', ['succeeded'], PROMISED_ROUNDS],
  ['paused', 'resume', 'cancel', ['cancelling', 'running'], PROMISED_ROUNDS],
  ['pausing', 'resume', 'cancel', ['cancelling', 'running'], PROMISED_ROUNDS],
  ['cancelled', 'retry', 'sweep', ['running'], PROMISED_ROUNDS],
  ['at work and without its jobs', 'sweep', 'sweep', ['running'], PROMISED_ROUNDS],
  ['queued', 'plan', 'plan', ['running'], PROMISED_ROUNDS],
  ['queued', 'start', 'start', ['queued'], PROMISED_ROUNDS],

  ['queued', 'plan', 'cancel', ['cancelling'], 60],
  ['queued', 'plan', 'cancel to its end', ['cancelled'], 60],
  ['queued', 'plan', 'pause and resume', ['running'], 60],
  ['queued', 'plan', 'pause', ['pausing'], 60],
  ['queued', 'cancel', 'pause', ['cancelling'], 60],
  ['queued', 'plan', 'sweep', ['running'], 60],
  ['at work', 'plan', 'cancel', ['cancelling'], 60],
  ['at work', 'batch', 'batch', ['running'], 60],
  ['at work', 'plan', 'cancel to its end', ['cancelled'], 60],
  ['at work', 'settle', 'cancel to its end', ['cancelled', 'incomplete'], 60],
  ['at work', 'settle', 'pause and resume', ['running', 'incomplete'], 60],
  ['at work', 'fail', 'pause and resume', ['running', 'failed'], 60],
  ['at work', 'fail', 'settle', ['failed', 'incomplete'], 60],
  ['at work', 'tenant', 'pause and resume', ['running'], 60],
  ['at work', 'batch', 'cancel', ['cancelling'], 60],
  ['at work', 'batch', 'pause', ['pausing'], 60],
  ['at work', 'batch', 'fail', ['failed'], 60],
  ['at work', 'tenant', 'cancel', ['cancelling'], 60],
  ['at work', 'cancel', 'fail', ['cancelling', 'failed'], 60],
  ['at work and without its jobs', 'sweep', 'cancel', ['cancelling'], 60],
  ['at work and without its jobs', 'sweep', 'pause', ['pausing'], 60],
  ['at its end', 'settle', 'fail', ['succeeded', 'failed'], 60],
  ['at its end', 'settle', 'sweep', ['succeeded', 'running'], 60],
  ['at its end', 'settle', 'start', ['succeeded', 'running'], 60],
  ['pausing', 'plan', 'resume', ['running'], 60],
  ['pausing', 'plan', 'cancel', ['cancelling'], 60],
  ['pausing', 'plan', 'plan', ['paused'], 60],
  ['paused', 'resume', 'resume', ['running'], 60],
  ['cancelling', 'plan', 'plan', ['cancelled'], 60],
  ['cancelling', 'plan', 'sweep', ['cancelled', 'cancelling'], 60],
  ['cancelled', 'retry', 'retry', ['running'], 60],
  ['cancelled', 'retry', 'start', ['cancelled', 'running'], 60],
];

describe('a race', () => {
  test.for(RACES)('of a run that is %s, between %s and %s, ends well', { timeout: 300_000 }, async (race) => {
    const [sceneName, first, second, allowed, times] = race;
    const [a, b] = [MOVES[first], MOVES[second]];
    const scene = await prepare(sceneName);
    const restore = await story.save();
    for (let round = 1; round <= raceRounds(times); round++) {
      await restore();
      const random = new SeededRandom(`${SEED} ${race.join(' ')} ${round}`);

      const overtaken = round <= 2 * STATEMENTS_MAX;
      if (overtaken) await overtake(scene, Math.ceil(round / 2), round % 2 === 0 ? [a, b] : [b, a]);
      else await meet(scene, random, [a, b]);

      const where = `round ${round} of seed ${SEED}`;
      const { status } = (await readRun(story.deps.db, scene.runId)) ?? {};
      expect(allowed, where).toContain(status);
      expect(await brokenRules(story.sql, scene.runId), where).toEqual([]);
      if (overtaken || round % SETTLED_EVERY === 0) await expectGoodEnd(scene, where);
    }
  });
});

/** Lets all runs come to their end, and looks at what they leave. */
async function expectGoodEnd(scene: Scene, where: string): Promise<void> {
  const wasRunning = (await readRun(story.deps.db, scene.runId))?.status === 'running';
  await settleAll();
  expect(await brokenRules(story.sql, scene.runId), `${where}, settled`).toEqual([]);
  const rows = await story.rows();
  const run = await readRun(story.deps.db, scene.runId);
  if (run?.status === 'succeeded') expect(wrongRows(rows), where).toEqual([]);
  // What a race left running goes on as if nothing had been: no tenant of it was given up.
  if (wasRunning) expect(run, where).toMatchObject({ status: 'succeeded', reason: null });
  expect(await embeddedByAllRuns(), where).toBe(rows.filter((row) => row.embedding !== null).length);
}

/** Both go on at their own pace, and meet anywhere. */
async function meet(scene: Scene, random: SeededRandom, moves: readonly [Move, Move]): Promise<void> {
  await Promise.all(moves.map((move) => move(story.process(jitter(() => random.next())), scene)));
}

/** One stands still before its `step`th statement while the other goes all the way. */
async function overtake(scene: Scene, step: number, [frozen, other]: readonly [Move, Move]): Promise<void> {
  const { promise: thaw, resolve } = Promise.withResolvers<void>();
  const standing = frozen(story.process(frozenAt(step, thaw)), scene);
  const passing = other(story.deps, scene).finally(resolve);
  // Frozen within a transaction it holds a lock that the other may need.
  const timer = setTimeout(resolve, LOCKED_MS);
  await Promise.all([standing, passing]).finally(() => clearTimeout(timer));
}

async function prepare(name: SceneName): Promise<Scene> {
  await story.reset();
  await story.addRows(['one', 'two', 'three'].map((text) => ({ tenant: 'acme', text })));
  return SCENES[name]();
}

/** The run's present generation, as the job has it that a control enqueues. */
async function present(deps: BatchDeps, { runId }: PlanRun): Promise<PlanRun> {
  return { runId, generation: (await readRun(deps.db, runId))?.generation ?? 0 };
}

function start(deps: BatchDeps): Promise<StartOutcome> {
  const request = {
    dryRun: false,
    batchSize: 2,
    rowLimit: null,
    tenantIds: null,
    maxTokens: null,
    maxCostUsd: null,
  };
  return startRun(deps, { target: 'notes', ...request }, { actor: 'racer', idempotencyKey: null });
}

async function newRun(): Promise<Scene> {
  const { run } = await start(story.deps);
  return { runId: run.runId, generation: 1, batches: [] };
}

async function planned(): Promise<Scene> {
  const scene = await newRun();
  await planRun(story.deps, scene);
  await takeTenantTurn(scene, 'acme');
  return { ...scene, batches: await waitingBatches(scene) };
}

/** A tenant whose rows fit one batch has no job before that batch has ended. */
async function takeTenantTurn(scene: PlanRun, tenantId: string): Promise<void> {
  const key = { runId: scene.runId, generation: scene.generation, tenantId };
  if ((await story.queues.tenants.getJob(planTenantId(key))) !== undefined) await planTenant(story.deps, key);
}

async function steered(name: Control): Promise<Scene> {
  const { runId } = await planned();
  await controlRun(story.deps, runId, name, { actor: 'operator' });
  return { runId, generation: 2, batches: [] };
}

async function waitingBatches({ runId, generation }: PlanRun): Promise<RunBatch[]> {
  const jobs = await story.queues.batches.getJobs(['waiting', 'prioritized', 'delayed']);
  return jobs
    .map(({ data: { v: _version, ...batch } }) => batch as RunBatch)
    .filter((batch) => batch.runId === runId && batch.generation === generation)
    .sort((a, b) => a.sequence - b.sequence);
}

/** Does what the workers would, one job after another, until all tenants of a generation have settled. */
async function workOff(scene: PlanRun): Promise<void> {
  const done = new Set<number>();
  for (;;) {
    const tenants = await listUnsettledTenants(story.deps.db, scene.runId, scene.generation);
    if (tenants.length === 0) return;
    for (const tenantId of tenants) await takeTenantTurn(scene, tenantId);
    for (let ready = true; ready; ) {
      const batches = (await waitingBatches(scene)).filter(({ sequence }) => !done.has(sequence));
      for (const batch of batches) await runBatch(story.deps, batch, FIRST_TRY, never);
      for (const { sequence } of batches) done.add(sequence);
      ready = batches.length > 0;
    }
  }
}

/** Brings every run to its end by the calls that the workers would make. */
async function settleAll(): Promise<void> {
  const unsettled = await story.sql<{ runId: string }[]>`
    SELECT run_id AS "runId" FROM infill.runs WHERE settled_at IS NULL`;
  for (const { runId } of unsettled) {
    for (;;) {
      const run = await readRun(story.deps.db, runId);
      if (run === undefined || isSettled(run.status)) break;
      if (run.status === 'paused') await controlRun(story.deps, runId, 'resume', { actor: 'operator' });
      const scene = { runId, generation: (await readRun(story.deps.db, runId))?.generation ?? 0 };
      await enqueueRun(story.deps.queues, scene, run.target);
      if ((await planRun(story.deps, scene)).kind !== 'planned') continue;
      await workOff(scene);
      await settleFinishedRun(story.deps, scene);
    }
  }
}

async function embeddedByAllRuns(): Promise<number> {
  const [sum] = await story.sql<{ rows: number }[]>`
    SELECT coalesce(sum(embedded), 0)::int AS rows FROM infill.run_tenants`;
  return sum?.rows ?? -1;
}
