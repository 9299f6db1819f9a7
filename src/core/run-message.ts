import type { RunStatus } from './run.ts';

export type RunFacts = {
  readonly status: RunStatus;
  readonly reason: string | null;
  readonly holdReason: string | null;
  readonly dryRun: boolean;
  /** Null until the run was planned. */
  readonly planned: number | null;
  readonly embedded: number;
  readonly failed: number;
  readonly quarantined: number;
};

const SPENDS = 'The provider is called and tokens are spent; nothing is written.';

/** Says in words where a run is, for the person who started it. */
export function runMessage(run: RunFacts): string {
  const said = statusMessage(run);
  return run.holdReason === null ? said : `${said} On hold: ${run.holdReason}.`;
}

function statusMessage(run: RunFacts): string {
  const { status, dryRun, planned, embedded } = run;
  switch (status) {
    case 'queued':
      return dryRun
        ? `Dry run: queued, a worker plans it next. ${SPENDS}`
        : 'Queued: a worker plans the run next.';
    case 'running':
      if (planned === null && embedded > 0) {
        return dryRun
          ? `Dry run: went through ${embeddings(embedded)} so far, still counting what is missing. ${SPENDS}`
          : `Backfilling: ${embeddings(embedded)} written so far, still counting what is missing.`;
      }
      if (planned === null)
        return dryRun
          ? `Dry run: looking for missing embeddings. ${SPENDS}`
          : 'Looking for missing embeddings.';
      return dryRun
        ? `Dry run: went through ${embedded} of ${embeddings(planned)}; nothing is written, tokens are spent.`
        : `Backfilling: ${embedded} of ${embeddings(planned)} written.`;
    case 'pausing':
      return 'Pausing: batches in hand go on to their end.';
    case 'paused':
      return `Paused after ${embeddings(embedded)}; resume goes on with what is missing.`;
    case 'cancelling':
      return 'Cancelling: batches in hand write what was paid for.';
    case 'cancelled':
      return dryRun
        ? `Cancelled the dry run after ${embeddings(embedded)}.`
        : `Cancelled after ${embeddings(embedded)} written.`;
    case 'failed':
      return `Failed: ${run.reason ?? 'the reason was not recorded'}`;
    case 'succeeded':
      return succeededMessage(run);
    case 'incomplete':
      return incompleteMessage(run);
  }
}

function succeededMessage({ dryRun, embedded }: RunFacts): string {
  if (embedded === 0) return 'No missing embeddings found.';
  return dryRun
    ? `Dry run: would backfill ${embeddings(embedded)}.`
    : `Successfully backfilled ${embeddings(embedded)}.`;
}

function incompleteMessage({ dryRun, embedded, planned, reason }: RunFacts): string {
  const did = dryRun ? 'Dry run: would backfill' : 'Backfilled';
  return `${did} ${embedded} of ${embeddings(Math.max(planned ?? 0, embedded))}. Left: ${reason ?? 'the reason was not recorded'}`;
}

function embeddings(count: number): string {
  return count === 1 ? '1 embedding' : `${count} embeddings`;
}
