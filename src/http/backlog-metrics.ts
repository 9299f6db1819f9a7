import { Gauge, type Registry } from 'prom-client';
import type { Db } from '../db/client.ts';
import {
  countCredentials,
  countUnsettledRuns,
  type Figure,
  readGapAges,
  readLastCounts,
} from '../db/figures.ts';

/**
 * Adds what a monitor asks about all runs and keys, read from Postgres at each scrape. Once a registry.
 *
 * While Postgres does not answer these have no value, which says that nothing is known; the other figures stay.
 */
export function observeBacklog(registry: Registry, db: Db): void {
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
      async () => (await readLastCounts(db)).missing,
    ],
    [
      'infill_counted_timestamp_seconds',
      'When a run of the target last counted its missing rows.',
      ['target'],
      async () => (await readLastCounts(db)).countedAt,
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
    new Gauge({
      name,
      help,
      labelNames,
      registers: [registry],
      async collect() {
        const figures = await read().catch(() => []);
        this.reset();
        for (const { labels, value } of figures) this.set({ ...labels }, value);
      },
    });
  }
}
