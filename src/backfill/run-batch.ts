import { EmbedError } from '../core/failures.ts';
import { databaseRefusal, databaseTrouble } from '../core/service-trouble.ts';
import { type BatchStart, startBatch } from '../db/batch-start.ts';
import { idsGivenUp, idsRehearsed } from '../db/run-batches.ts';
import { readRunHead } from '../db/run-head.ts';
import { setHoldReason } from '../db/run-tenants.ts';
import { listBatchRows } from '../db/target-rows.ts';
import type { RunBatch } from '../queue/jobs.ts';
import { askGate } from './admit.ts';
import type { Attempt, BatchContext } from './batch-context.ts';
import { capReached } from './caps.ts';
import { type BatchDeps, readyTarget, targetForRun } from './deps.ts';
import { embedRows } from './embed-rows.ts';
import { BatchRecord } from './record-batch.ts';
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
  // A job of an older version does not name its target.
  const name = batch.target ?? (await readRunHead(deps.db, batch.runId))?.target;
  if (name === undefined) return 'left';
  const target = targetForRun(await readyTarget(deps, name), batch);
  const start = await startBatch(deps.db, target, batch);
  if (start === undefined || !start.isCurrent) return 'left';
  // Asked again, since it was admitted: a switch that let through what is on Redis would not stop the spending.
  const { switches, holdReason } = start;
  if ((await askGate(deps, start.run, batch, { switches, holdReason })).kind === 'held') return 'held';

  const context = { start, target, batch, attempt };
  const record = new BatchRecord(deps, context, signal);
  if (start.isEnded) {
    await record.goOn();
    return 'done';
  }
  try {
    // Batches that were admitted with the plan meet a cap that was set, or reached, since then.
    const isCapped = batch.isWhole && (await capReached(deps, start.run)) !== null;
    const finished = isCapped || (await embedRows(deps, context, record, signal));
    if (!finished) return 'left';
    await record.end({ failed: [], reason: null });
  } catch (error) {
    // Interrupted, or the lock is lost: another worker has the batch, or will have it.
    if (signal.aborted) throw error;
    if (databaseTrouble(error) !== undefined) throw new EmbedError('database_unavailable');
    await onFailure(deps, context, record, named(error));
  }
  return 'done';
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
  { start, target, batch, attempt }: BatchContext,
  record: BatchRecord,
  error: unknown,
): Promise<void> {
  const verdict = error instanceof EmbedError ? error.verdict : 'retry';
  const code = error instanceof EmbedError ? error.code : 'internal_error';
  if (error instanceof EmbedError && verdict === 'snooze') {
    await showLongWait(deps, batch, error);
    throw error;
  }
  if (error instanceof EmbedError && verdict === 'stop_tenant') {
    await stopTenant(deps, batch, error);
    await record.end({ failed: [], reason: error.code });
    return;
  }
  if (error instanceof EmbedError && verdict === 'stop_run') {
    // The account behind a tenant's key may be the reason ("budget exceeded"), so only that tenant stops.
    if (error.code === 'request_invalid' && isTenantsKey(deps, start)) {
      await stopTenant(deps, batch, error);
      await record.end({ failed: [], reason: error.code });
      return;
    }
    await failRun(deps, start.run, `${error.message}.${wordsOf(error)}`);
    throw error;
  }
  if (attempt.isLast) {
    const exceptIds = start.run.dryRun ? idsRehearsed(batch) : idsGivenUp(batch);
    const failed = await listBatchRows(deps.db, target, batch, exceptIds);
    await record.end({ failed, reason: code });
  }
  throw error;
}

/** Shorter waits are over before anybody has read of them. */
const WAIT_SHOWN_MS_MIN = 60_000;

/** Shows a long wait for the provider in the run's message. The batch that goes on next takes it away. */
async function showLongWait(deps: BatchDeps, batch: RunBatch, error: EmbedError): Promise<void> {
  const { code, retryAfterMs = 0, providerMessage } = error;
  const isOfProvider = code === 'rate_limited' || code === 'account_paused' || code === 'paced';
  if (!isOfProvider || retryAfterMs <= WAIT_SHOWN_MS_MIN) return;
  const until = new Date(Date.now() + retryAfterMs).toISOString().slice(0, 16);
  const said = providerMessage === undefined ? '' : ` (${providerMessage.slice(0, WAIT_WORDS_LENGTH_MAX)})`;
  const why =
    code === 'account_paused' ? 'the provider does not answer' : "the provider's limit lets nothing through";
  await setHoldReason(deps.db, batch, `${why}; it is asked again at ${until}Z${said}`);
}

const WAIT_WORDS_LENGTH_MAX = 200;

function wordsOf({ code, providerMessage }: EmbedError): string {
  if (providerMessage === undefined) return '';
  if (code === 'write_undone') return ` ${providerMessage}`;
  return ` ${code === 'database_refused' ? 'Postgres' : 'The provider'} said: ${providerMessage}`;
}

function isTenantsKey(deps: BatchDeps, start: BatchStart): boolean {
  try {
    return deps.keyring.open(start.credential).owner === 'tenant';
  } catch {
    return false;
  }
}
