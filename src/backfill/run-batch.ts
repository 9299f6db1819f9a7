import { EmbedError } from '../core/failures.ts';
import { databaseRefusal, databaseTrouble } from '../core/service-trouble.ts';
import type { CheckedTarget } from '../db/catalog.ts';
import { endBatch, idsGivenUp, idsRehearsed, isBatchEnded } from '../db/run-batches.ts';
import type { RunRecord } from '../db/runs.ts';
import { type MissingRow, readBatchRows } from '../db/target-rows.ts';
import { noIds } from '../db/target-sql.ts';
import type { RunBatch } from '../queue/jobs.ts';
import { admit, askGate } from './admit.ts';
import { type Attempt, type BatchContext, currentRun } from './batch-context.ts';
import { type BatchDeps, readyTarget } from './deps.ts';
import { embedRows } from './embed-rows.ts';
import { failRun, stopTenant } from './settle.ts';

export type BatchOutcome =
  | 'done'
  /** The run stops, was planned anew, or the tenant was stopped: nothing was sent. */
  | 'left'
  /** The operator or the database holds the tenant: nothing was sent, and it is to be called again a little later. */
  | 'held';

/**
 * Embeds one batch: reads its rows, sends what is still missing, writes what comes back, and admits the next.
 *
 * Safe to repeat and to interrupt anywhere. What was paid for is written request by request; a second call reads the rows
 * again and sends only what is left.
 *
 * @throws {EmbedError} with the verdict `retry` or `snooze`: the batch is to run again. After the last attempt its rows are
 *   given up, and the next batch is admitted, before it throws. `stop_run` after the run was failed.
 */
export async function runBatch(
  deps: BatchDeps,
  batch: RunBatch,
  attempt: Attempt,
  signal: AbortSignal,
): Promise<BatchOutcome> {
  const run = await currentRun(deps, batch);
  if (run === undefined) return 'left';
  // Asked again, since it was admitted: a switch that let through what is on Redis would not stop the spending.
  if ((await askGate(deps, run, batch)).kind === 'held') return 'held';
  const target = await readyTarget(deps, run.target);

  if (!(await isBatchEnded(deps.db, batch))) {
    try {
      const rows = await readRows(deps, run, target, batch);
      const finished = await embedRows(deps, { run, target, batch, attempt }, rows, signal);
      if (!finished) return 'left';
      await endBatch(deps.db, batch, batch, { failed: [], reason: null });
    } catch (error) {
      // Interrupted, or the lock is lost: another worker has the batch, or will have it.
      if (signal.aborted) throw error;
      if (databaseTrouble(error) !== undefined) throw new EmbedError('database_unavailable');
      await onFailure(deps, { run, target, batch, attempt }, named(error));
    }
  }
  await admitNext(deps, batch, target);
  return 'done';
}

function readRows(
  deps: BatchDeps,
  run: RunRecord,
  target: CheckedTarget,
  batch: RunBatch,
): Promise<MissingRow[]> {
  // What an earlier pass gave up stays given up, also where its rows lie between others that were claimed again.
  const exceptIds = run.dryRun ? idsRehearsed(batch) : run.failed > 0 ? idsGivenUp(batch) : noIds;
  return readBatchRows(deps.db, target, batch.tenantId, batch, exceptIds);
}

/** Admits by what the run is by now: this batch has spent some of what its caps allow, and somebody may have changed it. */
async function admitNext(deps: BatchDeps, batch: RunBatch, target: CheckedTarget): Promise<void> {
  const run = await currentRun(deps, batch);
  if (run !== undefined) await admit(deps, run, batch, target);
}

/** A statement that Postgres would refuse each time has a name of its own; anything else that is not a failure is a bug. */
function named(error: unknown): unknown {
  const refusal = error instanceof EmbedError ? undefined : databaseRefusal(error);
  // A value that does not fit (22) may be that of one row: its batch tries again, and gives up what it cannot write.
  if (refusal === undefined || refusal.code.startsWith('22')) return error;
  return new EmbedError('database_refused', { providerMessage: refusal.message });
}

/** Acts on a failure's verdict. Returns when the batch is over with it; throws on what the queue has to act on. */
async function onFailure(
  deps: BatchDeps,
  { run, target, batch, attempt }: BatchContext,
  error: unknown,
): Promise<void> {
  const verdict = error instanceof EmbedError ? error.verdict : 'retry';
  const code = error instanceof EmbedError ? error.code : 'internal_error';
  if (verdict === 'snooze') throw error;
  if (error instanceof EmbedError && verdict === 'stop_tenant') {
    await stopTenant(deps, batch, error.code);
    await endBatch(deps.db, batch, batch, { failed: [], reason: error.code });
    return;
  }
  if (error instanceof EmbedError && verdict === 'stop_run') {
    // A tenant's own endpoint speaks for that tenant alone.
    if (error.code === 'request_invalid' && (await hasOwnEndpoint(deps, batch.tenantId))) {
      await stopTenant(deps, batch, error.code);
      await endBatch(deps.db, batch, batch, { failed: [], reason: error.code });
      return;
    }
    const who = error.code === 'database_refused' ? 'Postgres' : 'The provider';
    const said = error.providerMessage === undefined ? '' : ` ${who} said: ${error.providerMessage}`;
    await failRun(deps, run, `${error.message}.${said}`);
    throw error;
  }
  if (attempt.isLast) {
    const left = await readRows(deps, run, target, batch);
    await endBatch(deps.db, batch, batch, { failed: left.map((row) => row.rowId), reason: code });
    await admitNext(deps, batch, target);
  }
  throw error;
}

async function hasOwnEndpoint(deps: BatchDeps, tenantId: string): Promise<boolean> {
  const credential = await deps.keyring.resolve(tenantId).catch(() => undefined);
  return credential?.hasOwnEndpoint ?? false;
}
