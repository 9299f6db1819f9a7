/** Keeps the history of coverage: counts every target now and then. */
import type { CheckedTarget } from '../db/catalog.ts';
import { countCoverage } from '../db/coverage.ts';
import { releaseLease, takeLease } from '../db/leases.ts';
import { addSample, listUnsampled } from '../db/samples.ts';
import { withStatementTimeout } from '../db/snapshot.ts';
import type { PlanDeps } from './deps.ts';

/** Counting all tables takes shorter, or another process joins in: that costs a sample more. */
const LEASE_MS = 300_000;
/** A sample is taken when the last one is this old. */
export const SAMPLE_EVERY_MS = 300_000;
/** Longest that one count may take. */
const COUNT_MS_MAX = 60_000;

/**
 * Counts each target whose last sample is old enough, in one process at a time, and keeps the figures. A target that cannot be
 * read, or whose count takes too long, has no sample: nothing is made up.
 *
 * Never called by a scrape: who asks for metrics must not make the database count. Returns the names of the targets counted.
 */
export async function sampleCoverage(
  deps: Pick<PlanDeps, 'db' | 'inspect' | 'log'>,
  targets: readonly string[],
  holder: string,
  everyMs = SAMPLE_EVERY_MS,
): Promise<string[]> {
  const { db } = deps;
  const due = await listUnsampled(db, targets, everyMs);
  if (due.length === 0) return [];
  const lease = { name: 'samples', holder };
  if (!(await takeLease(db, { ...lease, ttlMs: LEASE_MS }))) return [];
  try {
    const sampled: string[] = [];
    for (const name of due) {
      const state = await deps.inspect(name).catch(() => undefined);
      if (state?.kind !== 'ready') continue;
      try {
        await sampleOne(deps, state.target);
        sampled.push(name);
      } catch (error) {
        deps.log.warn({ target: name, err: error }, 'sample_failed');
      }
    }
    return sampled;
  } finally {
    await releaseLease(db, lease);
  }
}

async function sampleOne({ db }: Pick<PlanDeps, 'db'>, target: CheckedTarget): Promise<void> {
  const counts = await withStatementTimeout(db, COUNT_MS_MAX, (tx) => countCoverage(tx, target, null));
  await addSample(db, target.name, counts);
}
