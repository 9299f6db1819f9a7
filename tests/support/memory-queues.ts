/**
 * BullMQ in memory, as far as the story uses it, and its workers one step at a time: so that a test can let any job run,
 * crash, run twice or vanish at any moment. `src/workers/start.ts` is what this mirrors.
 */
import type { BatchDeps } from '../../src/backfill/deps.ts';
import { planRun } from '../../src/backfill/plan-run.ts';
import { planTenant } from '../../src/backfill/plan-tenant.ts';
import { runBatch } from '../../src/backfill/run-batch.ts';
import { settleFinishedRun } from '../../src/backfill/settle.ts';
import { EmbedError } from '../../src/core/failures.ts';
import type { Queues } from '../../src/queue/enqueue.ts';
import { type JobSpec, type PlanRun, type PlanTenant, QUEUES, type RunBatch } from '../../src/queue/jobs.ts';
import type { Hooks } from './hooked-db.ts';

type Kind = keyof typeof QUEUES;
type State = 'waiting' | 'active' | 'waiting-children' | 'completed' | 'failed';

export type MemoryJob = {
  readonly id: string;
  readonly kind: Kind;
  readonly attemptsMax: number;
  readonly parentId: string | undefined;
  /** Children that have not ended. */
  readonly pending: Set<string>;
  data: Record<string, unknown>;
  attemptsMade: number;
  state: State;
};

/** How a job's turn ends: with a state, or with a wait for its children, of which there may be none. */
type End = 'completed' | 'failed' | 'again' | 'waiting-children';

export class MemoryQueues {
  readonly #jobs = new Map<string, MemoryJob>();
  /** Every job as it was added: a worker may wake up with one in hand that everybody else has forgotten. */
  readonly history: MemoryJob[] = [];

  /** Jobs that a worker could take now, oldest first. */
  get ready(): MemoryJob[] {
    return [...this.#jobs.values()].filter((job) => job.state === 'waiting');
  }

  /** The queues as a process sees them that does everything by way of `hooks`. */
  seenBy(hooks: Hooks): Queues {
    const queue = (kind: Kind) => ({
      name: QUEUES[kind],
      qualifiedName: `bull:${QUEUES[kind]}`,
      addBulk: (specs: JobSpec[]) => hooks.around(async () => specs.map((spec) => this.#add(kind, spec))),
      getWaitingCount: async () => 0,
      getJobState: (id: string) => hooks.around(async () => this.#jobs.get(id)?.state ?? 'unknown'),
      getJob: (id: string) => hooks.around(async () => this.#facade(id)),
      getActive: () =>
        hooks.around(async () =>
          [...this.#jobs.values()].filter((job) => job.kind === kind && job.state === 'active'),
        ),
    });
    return { runs: queue('runs'), tenants: queue('tenants'), batches: queue('batches') } as unknown as Queues;
  }

  /** A job vanishes, and its parent is not told. */
  lose(job: MemoryJob): void {
    this.#jobs.delete(job.id);
  }

  flush(): void {
    this.#jobs.clear();
  }

  /** Gives a job its turn. A process that died in it leaves it to be taken up again, without using up an attempt. */
  async work(job: MemoryJob, deps: BatchDeps, isDead: () => boolean = () => false): Promise<void> {
    const attemptsMade = job.attemptsMade;
    job.state = 'active';
    const end = await this.turn(job, deps);
    if (isDead()) job.attemptsMade = attemptsMade;
    if (this.#jobs.get(job.id) === job) this.#end(job, isDead() ? 'again' : end);
  }

  /** What a worker does that holds a job, whether or not it still has its lock. Changes no job but the run job's step. */
  async turn(job: MemoryJob, deps: BatchDeps): Promise<End> {
    try {
      if (job.kind === 'runs') return await runTurn(job, deps);
      if (job.kind === 'tenants') return await tenantTurn(job, deps);
      return await batchTurn(job, deps);
    } catch (error) {
      const verdict = error instanceof EmbedError ? error.verdict : 'retry';
      if (verdict === 'snooze') return 'again';
      if (verdict === 'stop_run' || verdict === 'stop_tenant') return 'failed';
      job.attemptsMade++;
      return job.attemptsMade < job.attemptsMax ? 'again' : 'failed';
    }
  }

  #end(job: MemoryJob, end: End): void {
    if (end === 'waiting-children' && job.pending.size > 0) job.state = 'waiting-children';
    else if (end === 'waiting-children' || end === 'again') job.state = 'waiting';
    else {
      job.state = end;
      const parent = this.#jobs.get(job.parentId ?? '');
      parent?.pending.delete(job.id);
      if (parent?.state === 'waiting-children' && parent.pending.size === 0) parent.state = 'waiting';
    }
  }

  #add(kind: Kind, { data, opts }: JobSpec): { id: string } {
    const id = opts.jobId;
    const parent = opts.parent === undefined ? undefined : this.#jobs.get(opts.parent.id);
    // As BullMQ says that the parent is missing.
    if (opts.parent !== undefined && parent === undefined) return { id: '-5' };
    if (this.#jobs.has(id)) return { id };
    const job: MemoryJob = {
      id,
      kind,
      attemptsMax: opts.attempts ?? 1,
      parentId: parent?.id,
      pending: new Set(),
      data: { ...data },
      attemptsMade: 0,
      state: 'waiting',
    };
    this.#jobs.set(id, job);
    this.history.push({ ...job, data: { ...data }, pending: new Set() });
    parent?.pending.add(id);
    return { id };
  }

  #facade(id: string) {
    const job = this.#jobs.get(id);
    if (job === undefined) return undefined;
    return {
      data: job.data,
      getState: async () => job.state,
      getDependencies: async () => ({ unprocessed: [...job.pending].map((child) => `bull:any:${child}`) }),
    };
  }
}

async function runTurn(job: MemoryJob, deps: BatchDeps): Promise<End> {
  const payload = job.data as PlanRun & { step: string };
  if (payload.step === 'plan') {
    const outcome = await planRun(deps, payload);
    if (outcome.kind === 'again') return 'again';
    if (outcome.kind === 'ended') return 'completed';
    job.data.step = 'settle';
  }
  if (job.pending.size > 0) return 'waiting-children';
  return (await settleFinishedRun(deps, payload)) === 'stopping' ? 'again' : 'completed';
}

async function tenantTurn(job: MemoryJob, deps: BatchDeps): Promise<End> {
  // A turn before this one may have died after it had admitted.
  if (job.pending.size > 0) return 'waiting-children';
  const outcome = await planTenant(deps, job.data as PlanTenant);
  if (outcome.kind === 'admitted') return 'waiting-children';
  if (outcome.kind === 'held') return 'again';
  if (outcome.kind === 'left') return 'completed';
  return outcome.status === 'incomplete' ? 'failed' : 'completed';
}

async function batchTurn(job: MemoryJob, deps: BatchDeps): Promise<End> {
  const attempt = { number: job.attemptsMade + 1, isLast: job.attemptsMade + 1 >= job.attemptsMax };
  const outcome = await runBatch(deps, job.data as RunBatch, attempt, new AbortController().signal);
  return outcome === 'held' ? 'again' : 'completed';
}
