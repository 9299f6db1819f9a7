import { EmbedError } from '../core/failures.ts';
import { isRefusal } from '../core/splitting.ts';
import { isAtWork } from '../db/run-head.ts';
import type { EmbedAnswer } from '../openai/embedder.ts';
import { holderKeyOf } from '../pacing/account-key.ts';
import { runBatchId } from '../queue/jobs.ts';
import { askGate } from './admit.ts';
import type { BatchContext } from './batch-context.ts';
import { type Call, callProvider } from './call-provider.ts';
import type { BatchDeps } from './deps.ts';
import type { FittedInput } from './fit-inputs.ts';

/** The run was told to stop before a batch had sent all its requests. */
export class RunStopped extends Error {}

/** So many requests may fail one after the other, since one was answered, before a plain word is sent again. */
const FAILURES_WITHOUT_PROBE = 6;

/** How long a batch stays away while another one has the account to itself. */
const AWAY_MS = 20_000;

/** The requests of one attempt at a batch, and which of its waits are sat out. */
export class BatchCalls {
  readonly #deps: BatchDeps;
  readonly #context: BatchContext;
  readonly #call: Call;
  /** A request was refused: whose fault that is, is known only after some more of them. */
  #wasRefused = false;
  /** Requests that failed since one was answered; infinite before. */
  #failedSinceAnswer = Number.POSITIVE_INFINITY;
  /** A request failed: that counts once those behind it have been sent. */
  #hasFailed = false;

  constructor(
    deps: BatchDeps,
    context: BatchContext,
    own: Pick<Call, 'credential' | 'signal' | 'onRequest'>,
  ) {
    const { batch, target } = context;
    this.#deps = deps;
    this.#context = context;
    this.#call = {
      ...own,
      model: target.model,
      dimensions: target.dimensions,
      sendDimensions: target.sendDimensions,
      fields: target.request,
      jobId: runBatchId(batch),
      waiter: runBatchId({ ...batch, generation: 0 }),
      keyName: `${batch.runId}-g${batch.generation}-${holderKeyOf(own.credential)}`,
      tenantId: batch.tenantId,
      assertWanted: () => this.#assertWanted(),
      othersPass: () => this.#failedSinceAnswer < FAILURES_WITHOUT_PROBE,
      sitsOut: (waitMs) => this.#isInDoubt && deps.longWaits.sitsOut(this.#call, waitMs),
    };
  }

  /**
   * Sends one request.
   *
   * @throws {RunStopped} when nobody wants its answer any more.
   * @throws {EmbedError} `paced` when the tenant is held, or another batch has the account to itself.
   * @throws what `callProvider` throws.
   */
  async send(part: readonly FittedInput[]): Promise<EmbedAnswer> {
    const bytes = part.reduce((sum, input) => sum + input.bytes, 0);
    // Finding out who is to blame may take hundreds of requests: a run that stops does not wait for them.
    if (this.#isInDoubt) await this.#assertWanted();
    else if (this.#deps.longWaits.isTaken(this.#call)) await this.#stayAway(part.length, bytes);
    const texts = part.map((input) => input.text);
    const answer = await callProvider(this.#deps, this.#call, texts, bytes).catch((error: unknown) => {
      // Either a plain word was answered just now, or something else a moment ago.
      if (error instanceof EmbedError && error.othersPass)
        this.#failedSinceAnswer =
          this.#failedSinceAnswer < FAILURES_WITHOUT_PROBE ? this.#failedSinceAnswer + 1 : 0;
      this.#wasRefused ||= isRefusal(error);
      this.#hasFailed ||= error instanceof EmbedError && error.verdict === 'retry';
      throw error;
    });
    this.#failedSinceAnswer = 0;
    return answer;
  }

  get inputsMax(): number {
    const { credential } = this.#call;
    return this.#deps.embedder.inputsMaxOf?.(credential, this.#call) ?? Number.POSITIVE_INFINITY;
  }

  learnInputsMax(inputsMax: number, because: 'refused' | 'failed'): void {
    const { credential } = this.#call;
    this.#deps.embedder.learnInputsMax?.(credential, this.#call, inputsMax, because);
  }

  tryOtherForm(): boolean {
    return this.#deps.embedder.tryOtherForm?.(this.#call.credential, this.#call) ?? false;
  }

  /** Says that it is known by now why requests were refused. */
  cleared(): void {
    this.#wasRefused = false;
  }

  end(): void {
    this.#deps.longWaits.leave(this.#call);
  }

  /** Begun anew after each wait, an account that is slow enough would never come to the end of it. */
  get #isInDoubt(): boolean {
    return this.#wasRefused || this.#hasFailed;
  }

  async #assertWanted(): Promise<void> {
    const { batch, start } = this.#context;
    if (!(await isAtWork(this.#deps.db, batch))) throw new RunStopped();
    // A search may take hours: a switch that waited for its end would not stop the spending. Its next turn says `held`.
    if ((await askGate(this.#deps, start.run, batch)).kind === 'held') throw new EmbedError('paced');
  }

  /** @throws {EmbedError} `paced`. The place in the line goes to those behind it, the one that has the account among them. */
  async #stayAway(inputs: number, bytes: number): Promise<never> {
    const { credential, model, waiter } = this.#call;
    await this.#deps.pacer.left(credential, model, { inputs, bytes, waiter });
    throw new EmbedError('paced', { retryAfterMs: AWAY_MS });
  }
}
