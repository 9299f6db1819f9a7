import { Redis } from 'ioredis';
import { openQueues } from '../../src/queue/enqueue.ts';
import type { Sample } from './silence.ts';

/** One job a run and a tenant and a window of batches each; those of older generations are still on their way out. */
export const LIVE_JOBS_MAX = 1_000;

export type LiveJobs = {
  /** Jobs of all queues that have not ended. Rejects when Redis is away. */
  count(): Promise<number>;
  close(): void;
};

export function openLiveJobs(redisUrl: string): LiveJobs {
  const client = new Redis(redisUrl, {
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    commandTimeout: 1_000,
  });
  client.on('error', () => undefined);
  const { runs, tenants, batches } = openQueues(client);
  return {
    async count() {
      const counts = await Promise.all(
        [runs, tenants, batches].map((queue) =>
          queue.getJobCountByTypes('waiting', 'active', 'delayed', 'prioritized', 'waiting-children'),
        ),
      );
      return counts.reduce((sum, count) => sum + count, 0);
    },
    close: () => client.disconnect(),
  };
}

export function mostLiveJobs(samples: readonly Sample[]): number {
  return Math.max(0, ...samples.map(({ liveJobs }) => liveJobs ?? 0));
}
