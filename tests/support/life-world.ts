/** A whole system in which a test decides who takes which turn: runs, tenants and batches live, crash and heal here. */
import { SeededRandom } from '../../dev/sample/random.ts';
import { type Control, controlRun } from '../../src/backfill/control-run.ts';
import type { BatchDeps } from '../../src/backfill/deps.ts';
import { type RunRequest, startRun } from '../../src/backfill/start-run.ts';
import { sweep } from '../../src/backfill/sweep.ts';
import type { RunStatus } from '../../src/core/run.ts';
import { type Hooks, isDeath, jitter, type Mortal, untroubled } from './hooked-db.ts';
import { type MemoryJob, MemoryQueues } from './memory-queues.ts';
import type { Story } from './story.ts';
import { parseVector, type Row, vectorOf } from './system.ts';

/** The sweep leaves no run alone for its youth. */
const NONE_IS_YOUNG_MS = 0;
/** Turns that everything together may take once nothing is wrong any more. */
const TURNS_MAX = 2_000;

export type RunState = { readonly runId: string; readonly status: RunStatus; readonly dryRun: boolean };

export class LifeWorld {
  readonly story: Story;
  readonly queues = new MemoryQueues();
  /** An operator's switch. */
  held = false;
  #sweeps = 0;

  constructor(story: Story) {
    this.story = story;
  }

  /** A process of its own. */
  process(hooks: Hooks = untroubled): BatchDeps {
    const gate: BatchDeps['gate'] = async () =>
      this.held ? { kind: 'held', reason: 'an operator switched everything off' } : { kind: 'open' };
    return { ...this.story.process(hooks, { queues: this.queues.seenBy(hooks) }), gate };
  }

  /** The `nth` job, counted round and round, of those that could be worked on now. */
  pick(nth: number): MemoryJob | undefined {
    const { ready } = this.queues;
    return ready[nth % ready.length];
  }

  async work(job: MemoryJob | undefined, life: Mortal = untroubled): Promise<void> {
    if (job !== undefined) await this.queues.work(job, this.process(life), () => life.isDead());
  }

  /** Works on several jobs at once, each in a process that goes at its own pace, while an operator does something. */
  async workTogether(seed: number, jobs: number, meanwhile?: Control): Promise<void> {
    const random = new SeededRandom(String(seed));
    const pace = () => jitter(() => random.next(), 2);
    const chosen = new Set(Array.from({ length: jobs }, () => this.pick(random.integer(0, 1_000))));
    const turns = [...chosen].map((job) => this.work(job, { ...pace(), isDead: () => false }));
    if (meanwhile !== undefined) turns.push(this.control(meanwhile, { ...pace(), isDead: () => false }));
    await Promise.all(turns);
  }

  async start(
    request: Pick<RunRequest, 'dryRun' | 'rowLimit' | 'batchSize'>,
    life = untroubled,
  ): Promise<void> {
    const rest = { target: 'notes', tenantIds: null, maxTokens: null, maxCostUsd: null };
    const caller = { actor: 'operator', idempotencyKey: null };
    await unlessDead(startRun(this.process(life), { ...rest, ...request }, caller));
  }

  /** Does something to the newest run. */
  async control(control: Control, life = untroubled): Promise<void> {
    const [run] = await this.runs();
    if (run !== undefined)
      await unlessDead(controlRun(this.process(life), run.runId, control, { actor: 'operator' }));
  }

  /** A sweep once the lease of one that died is over. */
  async sweep(life = untroubled): Promise<void> {
    await this.story.sql`DELETE FROM infill.leases`;
    await unlessDead(sweep(this.process(life), `worker ${++this.#sweeps}`, NONE_IS_YOUNG_MS));
  }

  /** The newest first. */
  async runs(): Promise<RunState[]> {
    return [
      ...(await this.story.sql<RunState[]>`
        SELECT run_id AS "runId", status, dry_run AS "dryRun" FROM infill.runs ORDER BY created_at DESC, run_id`),
    ];
  }

  /** Everything goes right from now on: works until every run has settled, or says which has not. */
  async comeToRest(seed: number): Promise<void> {
    const random = new SeededRandom(String(seed));
    this.held = false;
    this.story.provider.failNext.length = 0;
    for (let turn = 0; turn < TURNS_MAX; turn++) {
      const job = this.pick(random.integer(0, 1_000));
      if (job !== undefined) {
        await this.work(job);
        continue;
      }
      const unsettled = (await this.runs()).filter(({ status }) => !SETTLED.includes(status));
      if (unsettled.length === 0) return;
      if (unsettled.some(({ status }) => status === 'paused')) await this.control('resume');
      else await this.sweep();
    }
    throw new Error(`no rest after ${TURNS_MAX} turns: ${JSON.stringify(await this.runs())}`);
  }

  /** Rows that have a vector which is not the one of their text. */
  async wrongVectors(): Promise<Row[]> {
    return (await this.story.rows()).filter(
      ({ content, embedding }) =>
        embedding !== null &&
        JSON.stringify(parseVector(embedding)) !== JSON.stringify(vectorOf(content ?? '')),
    );
  }

  /** How often each row was written, by the records of all runs that write. */
  async timesWritten(): Promise<Map<string, number>> {
    const rows = await this.story.sql<{ id: string; times: number }[]>`
      SELECT written.id, count(*)::int AS times
        FROM infill.run_batches b JOIN infill.runs r ON r.run_id = b.run_id AND NOT r.dry_run
       CROSS JOIN unnest(b.embedded_ids) AS written (id) GROUP BY written.id`;
    return new Map(rows.map(({ id, times }) => [id, times]));
  }
}

const SETTLED: readonly RunStatus[] = ['succeeded', 'incomplete', 'cancelled', 'failed'];

async function unlessDead(work: Promise<unknown>): Promise<void> {
  await work.catch((error: unknown) => {
    if (!isDeath(error)) throw error;
  });
}
