import { type Credential, withTargetLimits } from '../core/credential.ts';
import { EmbedError, PROVIDER_MESSAGE_LENGTH_MAX, quarantineCode } from '../core/failures.ts';
import { OPENAI_LIMITS } from '../core/limits.ts';
import { inputsMaxForAttempt, packRequests, type UniqueInput, uniqueInputs } from '../core/packing.ts';
import { bisect, CONTROL_TEXT, type Refused } from '../core/splitting.ts';
import { modelIdentity, type Target } from '../core/target.ts';
import { readPaidVectors } from '../db/paid-vectors.ts';
import { isAtWork } from '../db/run-head.ts';
import type { EmbedAnswer } from '../openai/embedder.ts';
import { holderKeyOf } from '../pacing/account-key.ts';
import type { PaidScope } from '../pacing/paid-texts.ts';
import { BatchCalls, RunStopped } from './batch-calls.ts';
import type { BatchContext } from './batch-context.ts';
import type { BatchDeps } from './deps.ts';
import { type FittedInput, fitInputs } from './fit-inputs.ts';
import type { BatchRecord } from './record-batch.ts';

/**
 * Sends a batch's rows in requests, each within the limits, and writes each answer before the next request goes out. The batch
 * ends with the last answer, where that was one for a whole request.
 *
 * Returns false when the run stopped meanwhile: nothing more was sent. Rows that the provider refuses alone are
 * quarantined.
 *
 * @throws {EmbedError} with the verdict `retry`, `snooze`, `stop_tenant` or `stop_run`; what was answered until then is written.
 */
export async function embedRows(
  deps: BatchDeps,
  context: BatchContext,
  record: BatchRecord,
  signal: AbortSignal,
): Promise<boolean> {
  const { start, target } = context;
  if (start.rows.length === 0) return true;
  const credential = withTargetLimits(deps.keyring.open(start.credential), target);
  const work = new Requests(deps, context, { record, credential, signal });
  try {
    const { fitting, tooLong } = await fitInputs(
      deps.tokenizer,
      withPrefix(uniqueInputs(start.rows), target),
      target.onTooLong,
    );
    await record.quarantine(tooLong.map((input) => ({ input, code: 'input_too_long', message: null })));

    const { requestBytesMax } = await deps.pacer.requestMax(credential, target.model);
    const limits = {
      ...OPENAI_LIMITS,
      requestBytesMax: Math.min(OPENAI_LIMITS.requestBytesMax, requestBytesMax),
    };
    const unpaid = await work.writeCached(fitting);
    const inputsMax = Math.min(
      inputsMaxForAttempt(context.attempt.number, Math.max(1, unpaid.length)),
      work.inputsMax,
    );
    const { requests } = packRequests(unpaid, limits, inputsMax);
    let failure: EmbedError | undefined;
    for (const [index, inputs] of requests.entries()) {
      if (index > 0 && !(await isAtWork(deps.db, context.batch))) return false;
      try {
        await work.embed(inputs, index === requests.length - 1 && failure === undefined);
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
    work.end();
    if (!record.isEnded) await record.flush();
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

/** Says which answers to write, and which rows to set aside, while a request is cut down to the row that is refused. */
class Requests {
  readonly #deps: BatchDeps;
  readonly #context: BatchContext;
  readonly #record: BatchRecord;
  readonly #calls: BatchCalls;
  #proven = false;

  constructor(
    deps: BatchDeps,
    context: BatchContext,
    { record, credential, signal }: { record: BatchRecord; credential: Credential; signal: AbortSignal },
  ) {
    this.#deps = deps;
    this.#context = context;
    this.#record = record;
    this.#calls = new BatchCalls(deps, context, {
      credential,
      signal,
      onRequest: () => record.noteRequest(),
    });
  }

  /** @param isLast whether the batch ends with its answer. */
  async embed(inputs: readonly FittedInput[], isLast: boolean): Promise<void> {
    let failure: EmbedError | undefined;
    const { answered } = await bisect(inputs, {
      embed: (part) => this.#calls.send(part),
      control: CONTROL_INPUT,
      proven: this.#proven,
      onAnswer: (part, answer) => this.#onAnswer(part, answer, isLast && part.length === inputs.length),
      onRefused: ({ input, error }: Refused<FittedInput>) =>
        this.#record.quarantine([{ input, ...refusalOf(error) }]),
      onFailed: ({ error }) => {
        failure ??= error;
      },
      inputsMax: () => this.inputsMax,
      onSizeLimit: (passed, because) => this.#calls.learnInputsMax(passed, because),
      tryOtherForm: () => this.#calls.tryOtherForm(),
    });
    this.#proven ||= answered.length > 0;
    this.#calls.cleared();
    if (failure !== undefined) throw failure;
  }

  /** The most inputs that the provider takes at once, as far as is known. */
  get inputsMax(): number {
    return this.#calls.inputsMax;
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
    const vectors = paid.map((input) => found.get(input.textHash));
    await this.#record.write(paid, vectors, { tokens: 0, ends: false });
    return inputs.filter((input) => !found.has(input.textHash));
  }

  async #onAnswer(part: readonly FittedInput[], answer: EmbedAnswer, ends: boolean): Promise<void> {
    const vectors = new Map<string, Float32Array>();
    for (const [index, vector] of answer.vectors.entries()) vectors.set(part[index]?.textHash ?? '', vector);
    const { paidTexts } = this.#deps;
    try {
      await this.#record.write(part, answer.vectors, { tokens: answer.tokens, ends });
    } catch (error) {
      // What cannot be written is not to be paid for again. Nobody waits for it: Redis may be away as well.
      void paidTexts.keep(this.#scope, vectors);
      throw error;
    }
    // A dry run leaves no row that the vector could be read from.
    if (this.#context.start.run.dryRun) await paidTexts.keep(this.#scope, vectors);
    else
      await paidTexts.wrote(
        this.#scope,
        part.flatMap(({ textHash, rowIds: [rowId] }) => (rowId === undefined ? [] : [{ textHash, rowId }])),
      );
  }

  get #scope(): PaidScope {
    const { batch, target } = this.#context;
    const { runId, tenantId } = batch;
    const { name, dimensions } = target;
    return { runId, tenantId, target: name, model: modelIdentity(target), dimensions };
  }

  end(): void {
    this.#calls.end();
  }
}

/** The inputs as they are sent: the prefix counts towards what a request and an input may hold. */
function withPrefix(
  inputs: readonly UniqueInput[],
  { prefix = '' }: Pick<Target, 'prefix'>,
): readonly UniqueInput[] {
  if (prefix === '') return inputs;
  const prefixBytes = Buffer.byteLength(prefix);
  return inputs.map((input) => ({ ...input, text: prefix + input.text, bytes: prefixBytes + input.bytes }));
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
