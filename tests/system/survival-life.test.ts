import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Control } from '../../src/backfill/control-run.ts';
import type { FailureCode } from '../../src/core/failures.ts';
import { RUN_TRANSITIONS, type RunStatus } from '../../src/core/run.ts';
import { dyingAt } from '../support/hooked-db.ts';
import { LifeWorld } from '../support/life-world.ts';
import { brokenRules } from '../support/run-invariants.ts';
import { openStory, POISON, type Story } from '../support/story.ts';
import { isRealPostgres } from '../support/system.ts';

/** Another seed lives other lives. */
const SEED = 20_261_122;
const lives = () => (isRealPostgres() ? 60 : 8);
const EVENTS_MAX = 30;

let story: Story;

beforeAll(async () => {
  story = await openStory();
});
afterAll(() => story.close());

/** What must be so, whatever was done: the texts that ought to be there, and how often a row lost its vector. */
type Model = {
  statuses: Map<string, RunStatus>;
  /** By row id: how often its text was set. */
  texts: Map<string, number>;
};

type Act = (world: LifeWorld, model: Model) => Promise<unknown>;

/** One event of a life. After each, every rule must hold. */
class Event implements fc.AsyncCommand<Model, LifeWorld> {
  readonly #name: string;
  readonly #act: Act;

  constructor(name: string, act: Act) {
    this.#name = name;
    this.#act = act;
  }

  check = () => true;

  async run(model: Model, world: LifeWorld): Promise<void> {
    await this.#act(world, model);
    await expectRules(model, world);
  }

  toString = () => this.#name;
}

async function expectRules(model: Model, world: LifeWorld): Promise<void> {
  const runs = await world.runs();
  for (const { runId, status } of runs) {
    const before = model.statuses.get(runId) ?? 'queued';
    expect(reachable(before), `${before} -> ${status}`).toContain(status);
    model.statuses.set(runId, status);
    expect(await brokenRules(world.story.sql, runId)).toEqual([]);
  }
  expect(await world.wrongVectors()).toEqual([]);
  for (const [id, times] of await world.timesWritten())
    expect(times, `row ${id} was written`).toBeLessThanOrEqual(model.texts.get(id) ?? 0);
}

function reachable(from: RunStatus): RunStatus[] {
  const seen = new Set<RunStatus>([from]);
  for (const status of seen) for (const next of RUN_TRANSITIONS[status]) seen.add(next);
  return [...seen];
}

const nth = fc.nat({ max: 1_000 });
const death = fc.record({ step: fc.integer({ min: 1, max: 40 }), when: fc.constantFrom('before', 'after') });
const control = fc.constantFrom<Control>('pause', 'resume', 'cancel', 'retry');
const tenant = fc.constantFrom('acme', 'globex', 'hooli');

const rowEvents = [
  fc.tuple(tenant, fc.integer({ min: 1, max: 5 }), fc.boolean()).map(
    ([name, count, poisoned]) =>
      new Event(`${name} gets ${count} rows${poisoned ? ', one poisoned' : ''}`, async (world, model) => {
        const texts = Array.from({ length: count }, (_, index) => `${name} ${index}`);
        if (poisoned) texts[0] = `${POISON} of ${name}`;
        await addRows(world, model, name, texts);
      }),
  ),
  nth.map(
    (place) =>
      new Event(`the ${place}th row is edited`, async (world, model) => {
        const id = idAt(model, place);
        await world.story
          .sql`UPDATE notes SET content = content || ' edited', embedding = NULL WHERE id = ${id}`;
        model.texts.set(id, (model.texts.get(id) ?? 0) + 1);
      }),
  ),
  nth.map(
    (place) =>
      new Event(`the ${place}th row is deleted`, (world, model) => {
        return world.story.sql`DELETE FROM notes WHERE id = ${idAt(model, place)}`;
      }),
  ),
];

const jobEvents = [
  fc.tuple(nth, fc.integer({ min: 1, max: 8 })).map(
    ([place, turns]) =>
      new Event(`${turns} jobs are worked on from the ${place}th`, async (world) => {
        for (let turn = 0; turn < turns; turn++) await world.work(world.pick(place + turn));
      }),
  ),
  fc
    .tuple(nth, fc.integer({ min: 2, max: 5 }), fc.option(control))
    .map(
      ([seed, jobs, meanwhile]) =>
        new Event(`${jobs} jobs at once, ${meanwhile ?? 'nothing'} meanwhile (${seed})`, (world) =>
          world.workTogether(seed, jobs, meanwhile ?? undefined),
        ),
    ),
  fc
    .tuple(nth, death)
    .map(
      ([place, { step, when }]) =>
        new Event(`the worker of the ${place}th job dies ${when} its step ${step}`, (world) =>
          world.work(world.pick(place), dyingAt(step, when)),
        ),
    ),
  nth.map(
    (place) =>
      new Event(`the ${place}th job is worked on by two`, async (world) => {
        const job = world.pick(place);
        if (job === undefined) return;
        const late = { ...job, data: { ...job.data }, pending: new Set<string>() };
        await Promise.all([world.work(job), world.queues.turn(late, world.process())]);
      }),
  ),
  nth.map(
    (place) =>
      new Event(`a worker wakes up that had the ${place}th job of all`, async (world) => {
        const { history } = world.queues;
        const job = history[place % history.length];
        if (job !== undefined) await world.queues.turn({ ...job, data: { ...job.data } }, world.process());
      }),
  ),
  fc.tuple(nth, fc.integer({ min: 1, max: 4 })).map(
    ([place, count]) =>
      new Event(`${count} jobs are lost from the ${place}th`, async (world) => {
        for (let lost = 0; lost < count; lost++) {
          const job = world.pick(place);
          if (job !== undefined) world.queues.lose(job);
        }
      }),
  ),
  fc.constant(new Event('Redis loses everything', async (world) => world.queues.flush())),
];

const systemEvents = [
  fc
    .record({
      dryRun: fc.boolean(),
      rowLimit: fc.option(fc.integer({ min: 1, max: 6 })),
      batchSize: fc.integer({ min: 1, max: 3 }),
    })
    .map((request) => new Event(`a run starts ${JSON.stringify(request)}`, (world) => world.start(request))),
  death.map(
    ({ step, when }) =>
      new Event(`the API dies ${when} its step ${step} of a start`, (world) =>
        world.start({ dryRun: false, rowLimit: null, batchSize: 2 }, dyingAt(step % 8, when)),
      ),
  ),
  control.map((name) => new Event(`an operator asks for ${name}`, (world) => world.control(name))),
  fc
    .tuple(control, death)
    .map(
      ([name, { step, when }]) =>
        new Event(`the API dies ${when} its step ${step} of a ${name}`, (world) =>
          world.control(name, dyingAt(step % 12, when)),
        ),
    ),
  fc.constant(new Event('a sweep', (world) => world.sweep())),
  death.map(
    ({ step, when }) =>
      new Event(`a sweep dies ${when} its step ${step}`, (world) => world.sweep(dyingAt(step % 15, when))),
  ),
  fc.boolean().map(
    (held) =>
      new Event(`the switch is ${held ? 'on' : 'off'}`, async (world) => {
        world.held = held;
      }),
  ),
  fc
    .constantFrom<FailureCode>(
      'provider_failed',
      'rate_limited',
      'key_invalid',
      'request_invalid',
      'answer_malformed',
    )
    .map(
      (code) =>
        new Event(`the provider fails: ${code}`, async (world) => {
          world.story.provider.failNext.push(code);
        }),
    ),
];

async function addRows(world: LifeWorld, model: Model, name: string, texts: string[]): Promise<void> {
  const added = await world.story.sql<{ id: string }[]>`
    INSERT INTO notes (tenant_id, content) SELECT ${name}, * FROM unnest(${texts}::text[]) RETURNING id`;
  for (const { id } of added) model.texts.set(id, 1);
}

function idAt({ texts }: Model, place: number): string {
  const ids = [...texts.keys()];
  return ids[place % Math.max(1, ids.length)] ?? '0';
}

test('a run, its tenants and its batches keep every rule whatever happens, and come to rest in the right place', async () => {
  const events = [...rowEvents, ...jobEvents, ...jobEvents, ...systemEvents];
  const chapter = fc.commands(events, { maxCommands: EVENTS_MAX, size: 'max' });
  // Chapters may be short; lives are not.
  const life = fc.array(chapter, { minLength: 3, maxLength: 3 });

  await fc.assert(
    fc.asyncProperty(life, nth, async (chapters, seed) => {
      await story.reset();
      const world = new LifeWorld(story);
      const model: Model = { statuses: new Map(), texts: new Map() };
      for (const name of ['acme', 'globex']) await addRows(world, model, name, [1, 2, 3, 4].map(String));
      await world.start({ dryRun: false, rowLimit: null, batchSize: 2 });
      for (const chapter of chapters) await fc.asyncModelRun(() => ({ model, real: world }), chapter);

      await world.comeToRest(seed);
      await expectRules(model, world);

      await world.start({ dryRun: false, rowLimit: null, batchSize: 3 });
      await world.comeToRest(seed);
      await expectRules(model, world);
      await expectComplete(world);
    }),
    { numRuns: lives(), seed: SEED },
  );
}, 300_000);

/** After a last run without any trouble, only what the provider refuses is missing, and each such row has its reason. */
async function expectComplete(world: LifeWorld): Promise<void> {
  const rows = await story.rows();
  const missing = rows.filter(({ embedding }) => embedding === null);
  expect(missing.filter(({ content }) => !content?.includes(POISON))).toEqual([]);
  const quarantined = await story.sql<{ id: string }[]>`SELECT row_id AS id FROM infill.quarantined_rows`;
  const reasons = new Set(quarantined.map(({ id }) => id));
  expect(missing.filter(({ id }) => !reasons.has(id))).toEqual([]);
  const [last] = await world.runs();
  expect(last?.status).toBe(missing.length === 0 ? 'succeeded' : 'incomplete');
}
