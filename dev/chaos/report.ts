/** What the suite prints when all is over. */
import type { Evidence } from './evidence.ts';
import { judgePayments } from './payments.ts';
import type { TroubleKind } from './schedule.ts';

export type Figures = Readonly<Record<string, number | string>>;

export type Measured = {
  readonly evidence: Evidence;
  readonly rows: { readonly added: number; readonly edited: number; readonly deleted: number };
  readonly logEvents: ReadonlyMap<string, number>;
  readonly liveJobsMax: number;
  readonly longestSilenceMs: number;
  readonly healMs: number;
};

export function figuresOf({
  evidence,
  rows,
  logEvents,
  liveJobsMax,
  longestSilenceMs,
  healMs,
}: Measured): Figures {
  const { strikes, runs, batches } = evidence;
  const struck = (...kinds: TroubleKind[]) => strikes.filter(({ kind }) => kinds.includes(kind)).length;
  const { paid, spoiled, rehearsed, atRisk, again } = judgePayments(evidence);
  const written = new Set(runs.filter(({ dryRun }) => !dryRun).map(({ runId }) => runId));
  const statuses = Map.groupBy(runs, ({ status }) => status);
  return {
    'worker kills': struck('worker_killed'),
    'worker replacements (SIGTERM)': struck('worker_replaced'),
    'worker freezes': struck('worker_frozen'),
    'API kills': struck('api_killed'),
    'Redis kills': struck('redis_killed'),
    'Redis flushes': struck('redis_flushed'),
    'Postgres outages, silences, cuts, terminations': struck(
      'postgres_away',
      'postgres_silent',
      'postgres_cut',
      'backends_terminated',
    ),
    'provider faults and outages': struck('provider_fault', 'provider_away'),
    'keys refused or replaced, limits lowered': struck('key_refused', 'key_replaced', 'limits_lowered'),
    'controls pressed': struck('pause', 'resume', 'cancel', 'retry', 'change', 'switched_off'),
    runs: `${runs.length} (${[...statuses].map(([status, some]) => `${some.length} ${status}`).join(', ')})`,
    'runs planned again by the sweep': logEvents.get('run_healed') ?? 0,
    'jobs of dead workers taken over': logEvents.get('job_stalled') ?? 0,
    rows: `${rows.added} added, ${rows.edited} edits, ${rows.deleted} deleted`,
    'vectors written': batches
      .filter(({ runId }) => written.has(runId))
      .reduce((sum, batch) => sum + batch.embeddedIds.length, 0),
    'texts paid for': `${paid} (${rehearsed} in dry runs, ${spoiled} in answers that the provider spoiled)`,
    'answers in hand when something struck, in texts': atRisk,
    'texts paid for again': `${sumOf(again)}${again.size === 0 ? '' : ` (${listed(again)})`}`,
    'most live jobs on Redis': liveJobsMax,
    'longest silence with work and nothing wrong': seconds(longestSilenceMs),
    'from the end of the storm to the last run settled': seconds(healMs),
  };
}

export function reportLines(figures: Figures, violations: readonly string[]): string[] {
  const width = Math.max(...Object.keys(figures).map((name) => name.length));
  const shown = violations.slice(0, VIOLATIONS_SHOWN_MAX);
  const more = violations.length - shown.length;
  return [
    ...Object.entries(figures).map(([name, value]) => `  ${name.padEnd(width)}  ${value}`),
    ...shown.map((violation) => `VIOLATION ${violation}`),
    ...(more > 0 ? [`VIOLATION and ${more} more`] : []),
    violations.length === 0 ? 'No violation.' : `${violations.length} violations.`,
  ];
}

const VIOLATIONS_SHOWN_MAX = 60;

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}

function listed(counts: ReadonlyMap<string, number>): string {
  const most = [...counts].toSorted(([, one], [, other]) => other - one);
  return most.map(([name, count]) => `${count} ${name}`).join(', ');
}

function sumOf(counts: ReadonlyMap<string, number>): number {
  return [...counts.values()].reduce((sum, count) => sum + count, 0);
}
