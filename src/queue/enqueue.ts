/** Puts jobs on the queues. The only place that adds any. */
import { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import { KEY_PREFIX_DEFAULT } from '../core/redis-address.ts';
import {
  type JobSpec,
  type PlanRun,
  type PlanTenant,
  planRunId,
  planRunJob,
  planTenantId,
  planTenantJob,
  QUEUES,
  type RunBatch,
  runBatchJob,
} from './jobs.ts';

export type Queues = { readonly runs: Queue; readonly tenants: Queue; readonly batches: Queue };

/** Jobs added by one call: 1,000 keep Redis busy for at most 0.26 s (measured with 100,000 jobs). */
const BULK_MAX = 1_000;

/** Opens the queues on a connection of the caller's, who also closes it. */
export function openQueues(connection: Redis, keyPrefix = KEY_PREFIX_DEFAULT): Queues {
  const open = (name: string) => {
    const queue = new Queue(name, { connection, prefix: keyPrefix });
    // The connection's own listener reports its errors; without one here Node would end the process.
    queue.on('error', () => undefined);
    return queue;
  };
  return { runs: open(QUEUES.runs), tenants: open(QUEUES.tenants), batches: open(QUEUES.batches) };
}

export async function closeQueues(queues: Queues): Promise<void> {
  await Promise.all([queues.runs.close(), queues.tenants.close(), queues.batches.close()]);
}

/** Enqueues the plan of a run's generation. Adding it again is ignored while the job is kept. */
export async function enqueueRun(queues: Queues, run: PlanRun, target: string): Promise<void> {
  await addAll(queues.runs, [planRunJob(run, target)]);
}

/** Enqueues tenants' jobs as children of their run's job, which must exist. */
export async function enqueueTenants(queues: Queues, tenants: readonly PlanTenant[]): Promise<void> {
  const jobs = tenants.map((tenant) => {
    const { name, data, opts } = planTenantJob(tenant);
    return {
      name,
      data,
      opts: { ...opts, parent: { id: planRunId(tenant), queue: queues.runs.qualifiedName } },
    };
  });
  await addAll(queues.tenants, jobs);
}

/** Enqueues batches as children of their tenant's job, or of their run's where they settle their tenant. That job must exist. */
export async function enqueueBatches(queues: Queues, batches: readonly RunBatch[]): Promise<void> {
  const jobs = batches.map((batch) => {
    const { name, data, opts } = runBatchJob(batch);
    const parent = batch.isWhole
      ? { id: planRunId(batch), queue: queues.runs.qualifiedName }
      : { id: planTenantId(batch), queue: queues.tenants.qualifiedName };
    return { name, data, opts: { ...opts, parent } };
  });
  await addAll(queues.batches, jobs);
}

/** @throws {Error} when a job was refused: BullMQ answers that with a negative number for its id, and does not throw. */
async function addAll(queue: Queue, jobs: JobSpec[]): Promise<void> {
  for (let start = 0; start < jobs.length; start += BULK_MAX) {
    const added = await queue.addBulk(jobs.slice(start, start + BULK_MAX));
    const refused = added.find((job) => job.id === undefined || /^-\d+$/.test(String(job.id)));
    if (refused !== undefined)
      throw new Error(`${queue.name} refused job "${refused.name}" with ${refused.id}: is its parent there?`);
  }
}
