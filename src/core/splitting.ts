import assert from 'node:assert/strict';
import { saysTooLong } from './classify-response.ts';
import { EmbedError } from './failures.ts';

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
  /** Sends one request. Resolves when it is accepted; throws an `EmbedError` with the verdict `split` when it is refused. */
  readonly embed: (part: readonly Item[]) => Promise<Answer>;
  /** An input that a right request accepts, made from `CONTROL_TEXT`. Its answer is thrown away. */
  readonly control: Item;
  /** True when a request with the same model and parameters was accepted before: then nothing here can make the request wrong. */
  readonly proven?: boolean;
  /** Called with each accepted part before the next request goes out, so that what was paid for is kept whatever happens next. */
  readonly onAnswer?: (part: readonly Item[], answer: Answer) => Promise<void> | void;
  /** Called once for each input that is to blame, as soon as that is certain. Never called if the request turns out wrong. */
  readonly onRefused?: (refused: Refused<Item>) => Promise<void> | void;
};

/** Whether a failure says that the same inputs may pass in other company. */
export function isRefusal(error: unknown): error is EmbedError {
  return error instanceof EmbedError && error.verdict === 'split';
}

/** Cuts a list of two or more in the middle; the first half is the longer one. */
export function halves<Item>(inputs: readonly Item[]): readonly [readonly Item[], readonly Item[]] {
  assert(inputs.length >= 2, 'one input has no halves');
  const middle = Math.ceil(inputs.length / 2);
  return [inputs.slice(0, middle), inputs.slice(middle)];
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
  let pending: (readonly Item[])[] = inputs.length === 0 ? [] : [inputs];

  for (let part = pending.pop(); part !== undefined; part = pending.pop()) {
    const accepted = await work.send(part);
    if (!accepted && part.length > 1) pending.push(...halves(part).toReversed());

    if (work.suspicious && work.refused.length === SUSPICIOUS_REFUSALS) {
      const rest = await work.sendSpread(pending.toReversed().flat());
      pending = rest.length === 0 ? [] : [rest];
    }
    await work.tellRefused();
  }

  if (work.suspicious) await work.sendControl();
  await work.tellRefused();
  return { answered: work.answered, refused: work.refused, requests: work.requests };
}

/** What one `bisect` has found out so far. */
class Work<Item, Answer> {
  readonly answered: (readonly [readonly Item[], Answer])[] = [];
  readonly refused: Refused<Item>[] = [];
  requests = 0;
  readonly #options: BisectOptions<Item, Answer>;
  #proven: boolean;
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

  async send(part: readonly Item[]): Promise<boolean> {
    const answer = await this.#try(part);
    if (answer instanceof EmbedError) {
      const [input] = part;
      if (part.length === 1 && input !== undefined) this.refused.push({ input, error: answer });
      return false;
    }
    this.answered.push([part, answer.value]);
    await this.#options.onAnswer?.(part, answer.value);
    return true;
  }

  /** Tries some of `rest` alone, until one is accepted. Returns those that were not tried. */
  async sendSpread(rest: readonly Item[]): Promise<readonly Item[]> {
    const tried = new Set<number>();
    for (const index of spreadIndexes(rest.length, SUSPICIOUS_REFUSALS).toReversed()) {
      const input = rest[index];
      assert(input !== undefined, 'indexes are within the list');
      tried.add(index);
      if (await this.send([input])) break;
    }
    if (this.suspicious) {
      const isLength = this.refused.every(({ error }) =>
        saysTooLong({ code: error.providerCode, message: error.providerMessage }),
      );
      // Whatever else is wrong, a dead key or an outage, shows with the plain word.
      await this.sendControl();
      if (!isLength) throw this.#requestInvalid();
    }
    return rest.filter((_, index) => !tried.has(index));
  }

  async sendControl(): Promise<void> {
    if ((await this.#try([this.#options.control])) instanceof EmbedError) throw this.#requestInvalid();
  }

  async tellRefused(): Promise<void> {
    if (this.suspicious) return;
    for (; this.#told < this.refused.length; this.#told++) {
      const refused = this.refused[this.#told];
      if (refused !== undefined) await this.#options.onRefused?.(refused);
    }
  }

  async #try(part: readonly Item[]): Promise<{ value: Answer } | EmbedError> {
    this.requests++;
    try {
      const value = await this.#options.embed(part);
      this.#proven = true;
      return { value };
    } catch (error) {
      if (isRefusal(error)) return error;
      throw error;
    }
  }

  #requestInvalid(): EmbedError {
    const last = this.refused.at(-1)?.error;
    return new EmbedError('request_invalid', last === undefined ? {} : { ...last, limits: last.limits });
  }
}

/** At most `count` indexes of a list of `length`, in order, the middle of each of as many equal parts. */
function spreadIndexes(length: number, count: number): number[] {
  const parts = Math.min(length, count);
  return Array.from({ length: parts }, (_, part) => Math.floor(((part + 0.5) * length) / parts));
}
