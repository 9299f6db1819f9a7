import { randomUUID } from 'node:crypto';
import { costUsd } from '../core/cost.ts';
import { type Credential, withTargetLimits } from '../core/credential.ts';
import { EmbedError, PROVIDER_MESSAGE_LENGTH_MAX, quarantineCode } from '../core/failures.ts';
import { OPENAI_LIMITS } from '../core/limits.ts';
import { inputsMaxForAttempt, packRequests, type UniqueInput, uniqueInputs } from '../core/packing.ts';
import { bisect, CONTROL_TEXT, type Refused } from '../core/splitting.ts';
import { readPaidVectors } from '../db/paid-vectors.ts';
import { quarantineRows } from '../db/quarantine.ts';
import { type BatchPart, NOTHING, recordPart } from '../db/run-batches.ts';
import { keepGeneration } from '../db/run-tenants.ts';
import type { MissingRow } from '../db/target-rows.ts';
import {
  type EmbeddedRow,
  rehearseEmbeddings,
  type WriteOutcome,
  writeEmbeddings,
} from '../db/target-writes.ts';
import type { EmbedAnswer } from '../openai/embedder.ts';
import { holderKeyOf } from '../pacing/account-key.ts';
import type { PaidScope } from '../pacing/paid-texts.ts';
import { BatchCalls, RunStopped } from './batch-calls.ts';
import { type BatchContext, currentRun } from './batch-context.ts';
import type { BatchDeps } from './deps.ts';
import { type FittedInput, fitInputs } from './fit-inputs.ts';

/**
 * Sends rows in requests, each within the limits, and writes each answer before the next request goes out.
 *
 * Returns false when the run stopped meanwhile: nothing more was sent. Rows that the provider refuses alone are
 * quarantined.
 *
 * @throws {EmbedError} with the verdict `retry`, `snooze`, `stop_tenant` or `stop_run`; what was answered until then is written.
 */
export async function embedRows(
  deps: BatchDeps,
  context: BatchContext,
  rows: readonly MissingRow[],
  signal: AbortSignal,
): Promise<boolean> {
  if (rows.length === 0) return true;
  const resolved = await deps.keyring.resolve(context.batch.tenantId);
  const credential = withTargetLimits(resolved, context.target);
  const work = new BatchWork(deps, context, credential, signal);
  try {
    const { fitting, tooLong } = await fitInputs(
      deps.tokenizer,
      uniqueInputs(rows),
      context.target.onTooLong,
    );
    await work.quarantine(tooLong.map((input) => ({ input, code: 'input_too_long', message: null })));

    const { requestBytesMax } = await deps.pacer.requestMax(credential, context.target.model);
    const limits = {
      ...OPENAI_LIMITS,
      requestBytesMax: Math.min(OPENAI_LIMITS.requestBytesMax, requestBytesMax),
    };
    const unpaid = await work.writeCached(fitting);
    const inputsMax = inputsMaxForAttempt(context.attempt.number, Math.max(1, unpaid.length));
    const { requests } = packRequests(unpaid, limits, inputsMax);
    let failure: EmbedError | undefined;
    for (const [index, inputs] of requests.entries()) {
      if (index > 0 && (await currentRun(deps, context.batch)) === undefined) return false;
      try {
        await work.embed(inputs);
      } catch (error) {
        // The requests behind one that fails are sent all the same: a row that is never embedded costs no other row.
        if (!(error instanceof EmbedError)) throw error;
        if (error.verdict !== 'retry')
          throw failure !== undefined && endsAttempt(error, context) ? failure : error;
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
    return true;
  } catch (error) {
    if (error instanceof RunStopped) return false;
    if (error instanceof EmbedError && error.verdict === 'stop_tenant')
      await assertPresentKey(deps, context.batch.tenantId, credential);
    throw error;
  } finally {
    await work.end();
  }
}

/**
 * Looks whether a key that stops its tenant is still the tenant's: it may have been replaced while the batch was at work.
 *
 * @throws {EmbedError} `key_replaced` when it is not.
 */
async function assertPresentKey(deps: BatchDeps, tenantId: string, used: Credential): Promise<void> {
  const present = await deps.keyring.resolve(tenantId).catch(() => used);
  if (holderKeyOf(present) !== holderKeyOf(used)) throw new EmbedError('key_replaced', { retryAfterMs: 0 });
}

/**
 * Whether a wait that was not sat out ends the attempt of a batch of which a request has failed: it would come to the same
 * failure and the same wait for ever. The last attempt goes on all the same, or rows would be given up that were not tried.
 */
function endsAttempt({ code }: EmbedError, { attempt }: BatchContext): boolean {
  return (code === 'paced' || code === 'rate_limited') && !attempt.isLast;
}

/** One attempt at a batch: what it sends, and what it has to record of that. */
class BatchWork {
  readonly #deps: BatchDeps;
  readonly #context: BatchContext;
  readonly #signal: AbortSignal;
  readonly #calls: BatchCalls;
  /** Requests sent that no record has yet. */
  #requests = 0;
  #proven = false;

  constructor(deps: BatchDeps, context: BatchContext, credential: Credential, signal: AbortSignal) {
    this.#deps = deps;
    this.#context = context;
    this.#signal = signal;
    const onRequest = () => void this.#requests++;
    this.#calls = new BatchCalls(deps, context, { credential, signal, onRequest });
  }

  async embed(inputs: readonly FittedInput[]): Promise<void> {
    const { answered } = await bisect(inputs, {
      embed: (part) => this.#calls.send(part),
      control: CONTROL_INPUT,
      proven: this.#proven,
      onAnswer: (part, answer) => this.#onAnswer(part, answer),
      onRefused: ({ input, error }: Refused<FittedInput>) =>
        this.quarantine([{ input, ...refusalOf(error) }]),
    });
    this.#proven ||= answered.length > 0;
    this.#calls.cleared();
  }

  /** Writes the rows whose text this run has paid for before. Returns the inputs that are still to be sent. */
  async writeCached(inputs: readonly FittedInput[]): Promise<readonly FittedInput[]> {
    const { batch, target } = this.#context;
    const found = await this.#deps.paidTexts.find(
      this.#scope,
      inputs.map((input) => input.textHash),
      (rowIds) => readPaidVectors(this.#deps.db, target, batch.tenantId, rowIds),
    );
    const paid = inputs.filter((input) => found.has(input.textHash));
    if (paid.length === 0) return inputs;
    await this.#write(
      paid,
      paid.map((input) => found.get(input.textHash)),
      0,
    );
    return inputs.filter((input) => !found.has(input.textHash));
  }

  async #onAnswer(part: readonly FittedInput[], answer: EmbedAnswer): Promise<void> {
    const vectors = new Map<string, Float32Array>();
    for (const [index, vector] of answer.vectors.entries()) vectors.set(part[index]?.textHash ?? '', vector);
    const { paidTexts } = this.#deps;
    try {
      await this.#write(part, answer.vectors, answer.tokens);
    } catch (error) {
      // What cannot be written is not to be paid for again. Nobody waits for it: Redis may be away as well.
      void paidTexts.keep(this.#scope, vectors);
      throw error;
    }
    // A dry run leaves no row that the vector could be read from.
    if (this.#context.run.dryRun) await paidTexts.keep(this.#scope, vectors);
    else
      await paidTexts.wrote(
        this.#scope,
        part.flatMap(({ textHash, rowIds: [rowId] }) => (rowId === undefined ? [] : [{ textHash, rowId }])),
      );
  }

  get #scope(): PaidScope {
    const { batch, target } = this.#context;
    const { model, dimensions } = target;
    return { runId: batch.runId, tenantId: batch.tenantId, target: target.name, model, dimensions };
  }

  async #write(
    part: readonly FittedInput[],
    vectors: readonly (Float32Array | undefined)[],
    tokens: number,
  ): Promise<void> {
    const { target } = this.#context;
    // On the way out what was paid for is still written. Without the lock it is not: another worker has the batch.
    if (this.#signal.aborted && !(this.#signal.reason instanceof EmbedError)) this.#signal.throwIfAborted();
    const rows = part.flatMap(({ rowIds, textHash }, index) => {
      const vector = vectors[index];
      if (vector === undefined)
        throw new Error('an answer that passed its checks has a vector for each input');
      return rowIds.map((rowId) => ({ rowId, textHash, vector }));
    });
    const cut = part.filter((input) => input.truncated).flatMap((input) => input.rowIds);
    const nothing = { tokens: 0, costUsd: null, truncated: [] };
    let unrecorded: Pick<BatchPart, 'tokens' | 'costUsd' | 'truncated'> = {
      tokens,
      costUsd: costUsd(target.model, tokens),
      truncated: cut,
    };
    try {
      await this.#deps.writes.inPieces(target.name, rows, async (piece, pieceId) => {
        await this.#record(pieceId, async (tx) => ({
          ...byOutcome(await this.#outcomesOf(tx, piece)),
          ...unrecorded,
        }));
        unrecorded = nothing;
      });
    } catch (error) {
      // What cannot be written was paid for all the same, and counts against the run's caps.
      const paid = { ...NOTHING, tokens: unrecorded.tokens, costUsd: unrecorded.costUsd };
      if (paid.tokens > 0) await this.#record(randomUUID(), async () => paid).catch(() => undefined);
      throw error;
    }
  }

  async #outcomesOf(tx: BatchDeps['db'], rows: readonly EmbeddedRow[]): Promise<WriteOutcome[]> {
    const { run, target, batch } = this.#context;
    if (!run.dryRun) return writeEmbeddings(tx, target, batch.tenantId, rows);
    // Nothing in the rows tells that another plan has been through them: of an older one, nothing counts any more.
    return (await keepGeneration(tx, batch)) ? rehearseEmbeddings(tx, target, batch.tenantId, rows) : [];
  }

  /** Sets rows aside and counts them. A dry run only counts: it changes nothing that another run goes by. */
  async quarantine(
    refused: readonly { input: UniqueInput; code: string; message: string | null }[],
  ): Promise<void> {
    if (refused.length === 0) return;
    const { run, target, batch } = this.#context;
    const rows = refused.flatMap(({ input, code, message }) =>
      input.rowIds.map((rowId) => ({
        target: target.name,
        rowId,
        tenantId: batch.tenantId,
        textHash: input.textHash,
        model: target.model,
        code,
        message,
        runId: run.runId,
      })),
    );
    await this.#record(randomUUID(), async (tx) => {
      if (!run.dryRun) await quarantineRows(tx, rows);
      return {
        ...NOTHING,
        quarantined: rows.map((row) => row.rowId),
        quarantinedCodes: rows.map((row) => row.code),
      };
    });
  }

  /** Records the requests whose answers brought nothing to write. */
  async end(): Promise<void> {
    this.#calls.end();
    if (this.#requests > 0) await this.#record(randomUUID(), async () => NOTHING);
  }

  async #record(partId: string, write: (tx: BatchDeps['db']) => Promise<BatchPart>): Promise<void> {
    const { batch } = this.#context;
    const requests = this.#requests;
    await recordPart(this.#deps.db, batch, batch, partId, async (tx) => ({ ...(await write(tx)), requests }));
    this.#requests -= requests;
  }
}

const CONTROL_INPUT: FittedInput = {
  text: CONTROL_TEXT,
  textHash: '',
  bytes: CONTROL_TEXT.length,
  rowIds: [],
  truncated: false,
};

/** The message is the provider's code, which may say more than its words, and its words. */
function refusalOf(error: EmbedError): { code: string; message: string | null } {
  const said = [error.providerCode, error.providerMessage].filter((part) => part !== undefined).join(': ');
  const message = said === '' ? null : said.slice(0, PROVIDER_MESSAGE_LENGTH_MAX);
  return { code: quarantineCode(error.code), message };
}

function byOutcome(outcomes: readonly WriteOutcome[]): BatchPart {
  const ids = (wanted: WriteOutcome['outcome']) =>
    outcomes.filter(({ outcome }) => outcome === wanted).map(({ rowId }) => rowId);
  return { ...NOTHING, embedded: ids('embedded'), superseded: ids('superseded'), gone: ids('gone') };
}
