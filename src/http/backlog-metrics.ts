import { Gauge, type Registry } from 'prom-client';
import type { Db } from '../db/client.ts';
import {
  countCredentials,
  countUnsettledRuns,
  type Figure,
  readGapAges,
  readLastCounts,
} from '../db/figures.ts';

/** `/metrics` needs no login, so what it reads is read once in this time, however many ask. */
const REUSE_MS = 2_000;

/**
 * Adds what a monitor asks about all runs and keys, read from Postgres at a scrape, but once in 2 s. Once a registry.
 *
 * While Postgres does not answer these have no value, which says that nothing is known; the other figures stay.
 */
export function observeBacklog(registry: Registry, db: Db, now: () => number = Date.now): void {
  const lastCounts = reused(() => readLastCounts(db), now);
  const gauges: readonly [string, string, string[], () => Promise<Figure[]>][] = [
    [
      'infill_runs_unsettled',
      'Runs that are queued, running, pausing, paused or cancelling.',
      ['target', 'status'],
      () => countUnsettledRuns(db),
    ],
    [
      'infill_missing_rows',
      'Rows without an embedding when a run of the target last counted them.',
      ['target'],
      async () => (await lastCounts()).missing,
    ],
    [
      'infill_counted_timestamp_seconds',
      'When a run of the target last counted its missing rows.',
      ['target'],
      async () => (await lastCounts()).countedAt,
    ],
    [
      'infill_gap_age_seconds',
      'Time since the watch found the gap that a target has. 0: it has none.',
      ['target'],
      () => readGapAges(db),
    ],
    [
      'infill_tenant_keys',
      "Tenants' own keys, by what is known of them.",
      ['status'],
      () => countCredentials(db),
    ],
  ];
  for (const [name, help, labelNames, read] of gauges) {
    const readOnce = reused(read, now);
    new Gauge({
      name,
      help,
      labelNames,
      registers: [registry],
      async collect() {
        const figures = await readOnce().catch(() => []);
        this.reset();
        for (const { labels, value } of figures) this.set({ ...labels }, value);
      },
    });
  }
}

/** Those who ask while a reading is under way join it, and those who ask soon after get its result. A failure is not kept. */
function reused<Value>(read: () => Promise<Value>, now: () => number): () => Promise<Value> {
  let kept: { readonly value: Promise<Value>; untilMs: number } | undefined;
  return () => {
    if (kept !== undefined && now() < kept.untilMs) return kept.value;
    const reading = { value: read(), untilMs: Number.POSITIVE_INFINITY };
    kept = reading;
    const keepFor = (ms: number) => {
      reading.untilMs = now() + ms;
    };
    reading.value.then(
      () => keepFor(REUSE_MS),
      () => keepFor(0),
    );
    return reading.value;
  };
}
