/** Watches for silence: time in which a target had work and nothing was wrong, and yet none of it reached the provider. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { LiveJobs } from './live-jobs.ts';
import type { World } from './world.ts';

const LOOK_EVERY_MS = 500;

export type Sample = {
  readonly atMs: number;
  /** Targets that could get on: their run is to run, nobody holds it, and the monkey has taken nothing away. */
  readonly workable: readonly string[];
  /** Jobs on Redis that have not ended; null when Redis did not answer. */
  readonly liveJobs: number | null;
};

/** Looks twice a second until `signal` aborts. */
export async function watchForSilence(
  world: World,
  liveJobs: LiveJobs,
  signal: AbortSignal,
): Promise<Sample[]> {
  const samples: Sample[] = [];
  while (!signal.aborted) {
    const isWhole = world.missing.size === 0 && world.workers.some((worker) => worker.isAtWork);
    const workable = isWhole ? await targetsAtWork(world) : [];
    const count = await liveJobs.count().catch(() => null);
    samples.push({ atMs: Date.now(), workable, liveJobs: count });
    await sleep(LOOK_EVERY_MS, undefined, { signal }).catch(() => undefined);
  }
  return samples;
}

async function targetsAtWork({ sql }: World): Promise<string[]> {
  const runs = await sql<{ target: string }[]>`
    SELECT target FROM infill.runs WHERE status IN ('queued', 'running')
       AND NOT EXISTS (
         SELECT 1 FROM infill.run_tenants t
          WHERE t.run_id = runs.run_id AND t.hold_reason IS NOT NULL AND t.settled_at IS NULL)`.catch(
    () => [],
  );
  return runs.map(({ target }) => target);
}

/**
 * The longest silence of a target in milliseconds, as exact as the samples are close: from a call of it, or the moment on
 * which it had work, to the last look before the next, with every look in between finding work and nothing wrong.
 *
 * @param callsAtMs when each call of the target reached the provider, in order.
 */
export function longestSilenceMs(
  samples: readonly Sample[],
  target: string,
  callsAtMs: readonly number[],
): number {
  let longest = 0;
  let sinceMs: number | undefined;
  let next = 0;
  let lastCallMs = Number.NEGATIVE_INFINITY;
  for (const { atMs, workable } of samples) {
    for (; (callsAtMs[next] ?? Number.POSITIVE_INFINITY) <= atMs; next++)
      lastCallMs = callsAtMs[next] ?? lastCallMs;
    sinceMs = workable.includes(target) ? Math.max(sinceMs ?? atMs, lastCallMs) : undefined;
    if (sinceMs !== undefined) longest = Math.max(longest, atMs - sinceMs);
  }
  return longest;
}
