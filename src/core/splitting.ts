import assert from 'node:assert/strict';
import { isInputsOwn, isUnexplained, requestInvalid } from './blame.ts';
import { saysTooLong } from './classify-response.ts';
import { EmbedError } from './failures.ts';
import { chunks, cutInto, type Part, passed, spreadIndexes } from './request-parts.ts';

/**
 * Finds the inputs for which a provider refuses a request, by halving it until each refused input stands alone.
 *
 * A provider names no culprit: one bad input refuses all. But it also refuses all when *the request* is wrong, and then
 * no row may be blamed. `bisect` tells the two apart as follows. One accepted input proves the request right, and from
 * then on whatever is refused alone is to blame itself. Until something was accepted:
 *
 * 1. When eight inputs have been refused alone, up to eight more are tried alone, spread evenly over what was not tried
 *    yet and the farthest first, since bad rows often lie side by side. If none of these is accepted, the request is wrong;
 *    but if each was refused for its length, the control decides, as in 2: a model may take less than any row has.
 * 2. When a request of fewer than eight inputs was refused to the last one, the control (a plain word) is sent. If that
 *    is accepted, the rows are to blame; if it is refused, the request is.
 *
 * So ten bad rows among two thousand are found wherever they lie, a lone bad row can be told from a bad request by one
 * request more, and a bad request is known after some thirty requests instead of two for each row. The price: sixteen bad
 * rows in exactly these places are taken for a bad request although other rows would be accepted. Of rows of which half are
 * bad at random that happens once in 65,000 times; then the run stops, says so, and nothing is quarantined.
 */
const SUSPICIOUS_REFUSALS = 8;

/** How often more an input must fail alone, in words that are new, before it is to blame. */
const CONFIRMATIONS = 2;
/** After so many inputs their words need no confirmation. */
const WORDS_KNOWN = 3;
const CONFIRM_TRIES_MAX = 5;

/** From so many bad inputs on, a third of all, few inputs are sent alone at once. */
const MANY_BAD = 3;
const FEW_INPUTS = 10;

/** What is sent to find out whether the request is right: a word that no provider refuses. */
export const CONTROL_TEXT = 'hello';

export type Refused<Item> = { readonly input: Item; readonly error: EmbedError };

export type Bisection<Item, Answer> = {
  /** Parts that were accepted, each with its answer. Inputs keep their order within a part. */
  readonly answered: readonly (readonly [part: readonly Item[], answer: Answer])[];
  readonly refused: readonly Refused<Item>[];
  /** Requests sent, the first one and the control included. */
  readonly requests: number;
};

export type BisectOptions<Item, Answer> = {
  /** Sends one request. Resolves when it is accepted; throws an `EmbedError` that `isSplittable` when it is refused. */
  readonly embed: (part: readonly Item[]) => Promise<Answer>;
  /** An input that a right request accepts, made from `CONTROL_TEXT`. Its answer is thrown away. */
  readonly control: Item;
  /** True when a request with the same model and parameters was accepted before: then nothing here can make the request wrong. */
  readonly proven?: boolean;
  /** Called with each accepted part before the next request goes out, so that what was paid for is kept whatever happens next. */
  readonly onAnswer?: (part: readonly Item[], answer: Answer) => Promise<void> | void;
  /** Called once for each input that is to blame, as soon as that is certain. Never called if the request turns out wrong. */
  readonly onRefused?: (refused: Refused<Item>) => Promise<void> | void;
  /** Called for each input that failed alone, by nothing that tells whether it will again. */
  readonly onFailed?: (failed: Refused<Item>) => void;
  /** The most inputs that a request may hold, as far as is known by now. */
  readonly inputsMax?: () => number;
  /** Called when a request was refused, or failed, and all its parts passed: then its size was the reason. `passed` is the largest part's. */
  readonly onSizeLimit?: (passed: number, because: 'refused' | 'failed') => void;
  /** Puts the next requests in another form, when the control was refused. False when none is left. */
  readonly tryOtherForm?: () => boolean;
};

/**
 * Whether a failure says that the same inputs may pass in other company. An unexplained 400 is one, too: until a plain word was
 * refused as well, nobody knows whether it is about an input or about the request.
 */
export function isRefusal(error: unknown): error is EmbedError {
  if (!(error instanceof EmbedError)) return false;
  return error.verdict === 'split' || (error.code === 'request_invalid' && error.status !== undefined);
}

/** Refusals, and what a request failed with while others passed: an input of it may be the reason, or its size. */
export function isSplittable(error: unknown): error is EmbedError {
  if (isRefusal(error)) return true;
  return (
    error instanceof EmbedError && error.verdict === 'retry' && error.status !== undefined && error.othersPass
  );
}

/** Cuts a list of two or more in the middle; the first half is the longer one. */
export function halves<Item>(inputs: readonly Item[]): readonly [readonly Item[], readonly Item[]] {
  assert(inputs.length >= 2, 'one input has no halves');
  const middle = Math.ceil(inputs.length / 2);
  return [inputs.slice(0, middle), inputs.slice(middle)];
}

/** From this size on, parts of a request that was too large are quarters: limits are mostly far below. */
const QUARTERS_ABOVE = 64;

function piecesAfter<Item>(
  inputs: readonly Item[],
  { code, inputsMax }: EmbedError,
): readonly (readonly Item[])[] {
  if (inputsMax !== undefined && inputsMax < inputs.length) return chunks(inputs, inputsMax);
  if (code === 'request_too_large' && inputs.length > QUARTERS_ABOVE)
    return chunks(inputs, Math.ceil(inputs.length / 4));
  return halves(inputs);
}

/** The most requests that `bisect` sends besides the first one, when `refused` of `count` inputs are refused. */
export function splitRequestsMax(count: number, refused: number): number {
  assert(count >= 1 && refused >= 0 && refused <= count, 'no more inputs are refused than there are');
  return Math.floor(refused * (2 + 2 * Math.log2(count)));
}

/**
 * Sends inputs as one request and, if that is refused, in halves until each refused input stands alone.
 *
 * Requests go out one after another. The result covers every input exactly once.
 *
 * @throws {EmbedError} `request_invalid` when the request and not an input is to blame. Whatever else `embed` throws ends
 *   the work as it is; `onAnswer` and `onRefused` have been told of all that was certain until then.
 */
export async function bisect<Item, Answer>(
  inputs: readonly Item[],
  options: BisectOptions<Item, Answer>,
): Promise<Bisection<Item, Answer>> {
  const work = new Work(options);
  let pending: Part<Item>[] = inputs.length === 0 ? [] : [{ inputs, of: null }];

  for (let part = pending.pop(); part !== undefined; part = pending.pop()) {
    pending.push(...(await work.send(part)).toReversed());

    if (work.suspicious && work.refused.length === SUSPICIOUS_REFUSALS) {
      const rest = await work.sendSpread(pending.toReversed().flatMap((left) => left.inputs));
      pending = rest.length === 0 ? [] : [{ inputs: rest, of: null }];
    }
    await work.tellRefused();
  }

  if (work.suspicious) await work.sendControl();
  await work.tellRefused();
  const { answered, refused, requests } = work;
  return { answered, refused, requests };
}

/** What one `bisect` has found out so far. */
class Work<Item, Answer> {
  readonly answered: (readonly [readonly Item[], Answer])[] = [];
  readonly refused: Refused<Item>[] = [];
  requests = 0;
  readonly #options: BisectOptions<Item, Answer>;
  /** For how many inputs words were found to be about the input. */
  readonly #ownWords = new Map<string, number>();
  #proven: boolean;
  /** Inputs that were accepted. */
  #passed = 0;
  #told = 0;

  constructor(options: BisectOptions<Item, Answer>) {
    this.#options = options;
    this.#proven = options.proven ?? false;
  }

  /** Whether the request itself may be wrong: nothing was accepted, and all that was refused alone was refused for its content. */
  get suspicious(): boolean {
    if (this.#proven || this.refused.length === 0) return false;
    return this.refused.every(({ error }) => error.code === 'input_rejected');
  }

  /** Sends a part. Returns the smaller parts that are to be sent in its place. */
  async send(part: Part<Item>): Promise<readonly Part<Item>[]> {
    const { inputs } = part;
    const known = this.#options.inputsMax?.() ?? Number.POSITIVE_INFINITY;
    if (inputs.length > known) return cutInto(part, chunks(inputs, known), null);
    const answer = await this.#try(inputs);
    if (!(answer instanceof EmbedError)) {
      await this.#accept(part, answer.value);
      return [];
    }
    if (inputs.length > 1)
      return cutInto(part, this.#piecesOf(inputs, answer), isRefusal(answer) ? 'refused' : 'failed');
    await this.#judge(part, answer);
    return [];
  }

  /** Tries some of `rest` alone, until one is accepted. Returns those that were not tried. */
  async sendSpread(rest: readonly Item[]): Promise<readonly Item[]> {
    const tried = new Set<number>();
    for (const index of spreadIndexes(rest.length, SUSPICIOUS_REFUSALS).toReversed()) {
      const input = rest[index];
      assert(input !== undefined, 'indexes are within the list');
      tried.add(index);
      const before = this.answered.length;
      await this.send({ inputs: [input], of: null });
      if (this.answered.length > before) break;
    }
    if (this.suspicious) {
      const isLength = this.refused.every(({ error }) =>
        saysTooLong({ code: error.providerCode, message: error.providerMessage }),
      );
      // Whatever else is wrong, a dead key or an outage, shows with the plain word.
      await this.sendControl();
      if (!isLength) throw requestInvalid(this.refused.at(-1)?.error);
    }
    return rest.filter((_, index) => !tried.has(index));
  }

  /** @throws {EmbedError} `paced` when a plain word passes in another form: what was refused before says nothing then. */
  async sendControl(): Promise<void> {
    if (await this.#clear(this.refused.at(-1)?.error)) throw new EmbedError('paced', { retryAfterMs: 0 });
  }

  async tellRefused(): Promise<void> {
    if (this.suspicious) return;
    for (; this.#told < this.refused.length; this.#told++) {
      const refused = this.refused[this.#told];
      if (refused !== undefined) await this.#options.onRefused?.(refused);
    }
  }

  /** Where bad inputs are many, halves would be refused as well. */
  #piecesOf(inputs: readonly Item[], error: EmbedError): readonly (readonly Item[])[] {
    const bad = this.refused.length;
    const isMostlyBad = bad >= MANY_BAD && bad >= this.#passed / 2;
    return isMostlyBad && inputs.length <= FEW_INPUTS ? chunks(inputs, 1) : piecesAfter(inputs, error);
  }

  async #accept(part: Part<Item>, answer: Answer): Promise<void> {
    this.answered.push([part.inputs, answer]);
    this.#passed += part.inputs.length;
    await this.#options.onAnswer?.(part.inputs, answer);
    passed(part.of, part.inputs.length, this.#options.onSizeLimit);
  }

  /** Decides about an input that stands alone. */
  async #judge(part: Part<Item>, error: EmbedError): Promise<void> {
    const [input] = part.inputs;
    assert(input !== undefined, 'a part has an input');
    let last = error;
    if (isInputsOwn(error)) {
      const again = await this.#confirm(part.inputs, error);
      if (!(again instanceof EmbedError)) return this.#accept(part, again.value);
      last = again;
    }
    for (let of = part.of; of !== null; of = of.of) of.isClean = false;
    if (isInputsOwn(last) || isRefusal(last)) this.refused.push({ input, error: last });
    else this.#options.onFailed?.({ input, error: last });
  }

  /** Sends an input that failed by itself again until that is certain, or it passes: a server may fail at random. */
  async #confirm(part: readonly Item[], error: EmbedError): Promise<{ value: Answer } | EmbedError> {
    const words = error.providerMessage ?? '';
    const seen = this.#ownWords.get(words) ?? 0;
    // Twice for words that are new, not at all once several inputs were found to fail with them.
    let left = Math.max(0, seen === 0 ? CONFIRMATIONS : seen < WORDS_KNOWN ? 1 : 0);
    let last = error;
    for (let tries = 0; left > 0 && tries < CONFIRM_TRIES_MAX; tries++) {
      const again = await this.#try(part);
      if (!(again instanceof EmbedError)) return again;
      last = again;
      // A trouble of the server says nothing of the input.
      if (isInputsOwn(again)) left -= 1;
    }
    if (left === 0) this.#ownWords.set(words, seen + 1);
    return left === 0 ? error : last;
  }

  async #try(part: readonly Item[]): Promise<{ value: Answer } | EmbedError> {
    const answer = await this.#attempt(part);
    if (!(answer instanceof EmbedError) || this.#proven || !isUnexplained(answer)) return answer;
    return (await this.#clear(answer)) ? this.#attempt(part) : answer;
  }

  /**
   * Finds out by a plain word whether the request is right. Returns whether it is so in another form only.
   *
   * @throws {EmbedError} `request_invalid` when it is not.
   */
  async #clear(refusal: EmbedError | undefined): Promise<boolean> {
    for (let isChanged = false; ; isChanged = true) {
      const answer = await this.#attempt([this.#options.control]);
      // What failed while another plain word was answered was no refusal of the word.
      this.#proven ||= !isRefusal(answer);
      if (this.#proven) return isChanged;
      if (!this.#options.tryOtherForm?.()) throw requestInvalid(refusal);
    }
  }

  async #attempt(part: readonly Item[]): Promise<{ value: Answer } | EmbedError> {
    this.requests++;
    try {
      const value = await this.#options.embed(part);
      this.#proven = true;
      return { value };
    } catch (error) {
      if (isSplittable(error)) return error;
      throw error;
    }
  }
}
