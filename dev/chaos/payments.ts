/** Finds texts that were paid for more than once, and what each was in the way of. */
import type { CallFacts, EventFacts, Evidence, RunFacts } from './evidence.ts';
import { SPOILING } from './provider-troubles.ts';
import type { TroubleKind } from './schedule.ts';
import { tenantOfText } from './tables.ts';

export type Payments = {
  /** Texts in all answers that were paid for. */
  readonly paid: number;
  /** Of these, in answers that the provider spoiled. */
  readonly spoiled: number;
  /** Of these, in dry runs. */
  readonly rehearsed: number;
  /** Texts whose answer was in hand when something struck: no more can have been paid for again. */
  readonly atRisk: number;
  /** Texts paid for once more although nothing had changed, by what had struck while the answer before was in hand. */
  readonly again: ReadonlyMap<string, number>;
  /** The same, one line each for whoever wants to know. */
  readonly explained: readonly string[];
  /** Those that nothing explains. */
  readonly unexplained: readonly string[];
};

/**
 * How long after a trouble what it left behind may still be paid for again. A flushed Redis is noticed by the next sweep,
 * and the batches that were in hand go on until then; a database that is away is waited for with the answer in memory.
 */
const AFTERMATH_MS: Readonly<Partial<Record<TroubleKind, number>>> = {
  worker_killed: 0,
  worker_replaced: 0,
  worker_frozen: 1_000,
  redis_killed: 25_000,
  redis_flushed: 25_000,
  postgres_cut: 1_000,
  postgres_away: 5_000,
  postgres_silent: 5_000,
  backends_terminated: 1_000,
  provider_away: 0,
};

/** From the answer's leaving the provider to its being written. */
const WRITE_MS = 3_000;

type Span = { readonly what: string; readonly fromMs: number; readonly toMs: number };

export function judgePayments(evidence: Evidence): Payments {
  const spans = disturbances(evidence);
  const again = new Map<string, number>();
  const unexplained: string[] = [];
  const explained: string[] = [];
  const paid = payments(evidence);
  for (const { text, calls, wanted } of paid) {
    // The last answers are those that count; each before them was lost on its way.
    for (const call of calls.slice(0, Math.max(0, calls.length - wanted))) {
      const cause = causeOf(call, spans);
      if (cause === undefined) {
        unexplained.push(`without a cause ${describe(text, calls)}`);
        continue;
      }
      again.set(cause, (again.get(cause) ?? 0) + 1);
      explained.push(`because of ${cause} ${describe(text, calls)}`);
    }
  }
  const textsIn = (calls: readonly CallFacts[]) => calls.reduce((sum, { texts }) => sum + texts.length, 0);
  const billed = evidence.calls.filter((call) => call.billed);
  return {
    paid: textsIn(billed),
    spoiled: textsIn(billed.filter(({ fault }) => SPOILING.has(fault ?? ''))),
    rehearsed: paid.filter(({ isDry }) => isDry).reduce((sum, { calls }) => sum + calls.length, 0),
    atRisk: textsIn(billed.filter((call) => causeOf(call, spans) !== undefined)),
    again,
    explained,
    unexplained,
  };
}

type Paid = {
  readonly text: string;
  readonly isDry: boolean;
  readonly calls: CallFacts[];
  /** How often it had to be paid for: once for each row that held it. */
  readonly wanted: number;
};

/** All answers that were paid for and could be used, by text; those of each dry run apart, since a dry run pays too. */
function payments(evidence: Evidence): Paid[] {
  const paid = new Map<string, Paid>();
  const dryRuns = livesOfDryRuns(evidence.runs, evidence.events);
  for (const call of evidence.calls) {
    if (!call.billed || SPOILING.has(call.fault ?? '')) continue;
    for (const text of call.texts) {
      if (tenantOfText(text) === undefined) continue;
      const dryRun = dryRuns.find((life) => life.covers(text, call.atMs));
      const key = `${dryRun?.runId ?? 'written'}\n${text}`;
      const wanted = Math.max(1, evidence.holders.get(text) ?? 1);
      const entry = paid.get(key) ?? { text, isDry: dryRun !== undefined, calls: [], wanted };
      entry.calls.push(call);
      paid.set(key, entry);
    }
  }
  return [...paid.values()];
}

function disturbances({ strikes, events }: Evidence): Span[] {
  const struck = strikes.flatMap(({ kind, fromMs, toMs }) => {
    const aftermathMs = AFTERMATH_MS[kind];
    return aftermathMs === undefined ? [] : [{ what: kind, fromMs, toMs: toMs + aftermathMs }];
  });
  // A failed run frees its target at once: the next run there finds the rows that it has in hand still missing.
  const replanned = events
    .filter(({ action }) => action === 'run.failed')
    .map(({ action, atMs }) => ({ what: action, fromMs: atMs, toMs: atMs + WRITE_MS }));
  return [...struck, ...replanned];
}

function causeOf({ atMs, durationMs, status, fault }: CallFacts, spans: readonly Span[]): string | undefined {
  const inHandUntilMs = atMs + durationMs + WRITE_MS;
  const causes = spans.filter(({ fromMs, toMs }) => fromMs <= inHandUntilMs && toMs >= atMs);
  // Several may have struck at a time: all of them are named, since nobody can tell which of them it was.
  if (causes.length > 0) return [...new Set(causes.map(({ what }) => what))].toSorted().join(' + ');
  // No answer left the provider: the client had gone, or gave up on a slow one.
  return status === 0 ? `no answer${fault === null ? '' : ` (${fault})`}` : undefined;
}

type Life = { readonly runId: string; covers(text: string, atMs: number): boolean };

/** From its start, or its retry, to its end: then a target's calls are those of the dry run. */
function livesOfDryRuns(runs: readonly RunFacts[], events: readonly EventFacts[]): Life[] {
  return runs
    .filter((run) => run.dryRun)
    .map(({ runId, target }) => {
      const spans: { fromMs: number; toMs: number }[] = [];
      for (const { action, atMs } of events.filter((event) => event.runId === runId)) {
        if (action === 'run.started' || action === 'run.retried')
          spans.push({ fromMs: atMs, toMs: Number.POSITIVE_INFINITY });
        const last = spans.at(-1);
        if (TERMINAL.has(action) && last !== undefined) last.toMs = atMs;
      }
      return {
        runId,
        covers: (text, atMs) =>
          text.includes(` ${target} `) && spans.some(({ fromMs, toMs }) => fromMs <= atMs && atMs <= toMs),
      };
    });
}

export const TERMINAL: ReadonlySet<string> = new Set([
  'run.succeeded',
  'run.incomplete',
  'run.cancelled',
  'run.failed',
]);

function describe(text: string, calls: readonly CallFacts[]): string {
  const when = calls.map(
    ({ call, atMs, durationMs, status }) =>
      `call ${call} at ${new Date(atMs).toISOString().slice(11, 23)} (${durationMs} ms, ${status})`,
  );
  return `paid ${calls.length} times: "${text.slice(0, 60)}": ${when.join(', ')}`;
}
