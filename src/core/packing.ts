import assert from 'node:assert/strict';
import type { EmbeddingLimits } from './limits.ts';

/** One row's text, measured and ready to send. */
export type Input = {
  readonly rowId: string;
  readonly text: string;
  /** Hash of the row's whole text: tells at write time whether it changed while the provider was at work. */
  readonly textHash: string;
  /** UTF-8 bytes of `text`. */
  readonly bytes: number;
  /** `text` is only the beginning of a text that no request can hold. */
  readonly isCut?: boolean;
};

/** A text that is sent once, for all the rows that hold it. */
export type UniqueInput = {
  readonly text: string;
  readonly textHash: string;
  readonly bytes: number;
  readonly isCut?: boolean;
  /** At least one; in the order of the rows. */
  readonly rowIds: readonly string[];
};

export type PackedRequests<Item> = {
  /** Requests to send, each within the limits, in the order the inputs came. */
  readonly requests: readonly (readonly Item[])[];
  readonly inputs: number;
  readonly bytes: number;
};

/** From this attempt on, a batch is sent in smaller and smaller requests. */
const SMALLER_REQUESTS_FROM_ATTEMPT = 6;

/** Brings rows of one tenant that hold the same text together, in the order in which each text first came. */
export function uniqueInputs(rows: readonly Input[]): UniqueInput[] {
  const byHash = new Map<string, UniqueInput & { readonly rowIds: string[] }>();
  for (const { rowId, text, textHash, bytes, isCut = false } of rows) {
    const known = byHash.get(textHash);
    if (known === undefined)
      byHash.set(textHash, { text, textHash, bytes, rowIds: [rowId], ...(isCut && { isCut }) });
    else known.rowIds.push(rowId);
  }
  return [...byHash.values()];
}

/**
 * Packs inputs into requests by bytes and count, keeping their order.
 *
 * An input of more bytes than a request may hold gets a request of its own: whoever lets it in has counted its tokens.
 * `requestInputsMax` lowers the number of inputs a request; see `inputsMaxForAttempt`.
 */
export function packRequests<Item extends { readonly bytes: number }>(
  inputs: readonly Item[],
  limits: Pick<EmbeddingLimits, 'requestInputsMax' | 'requestBytesMax'>,
  requestInputsMax: number = limits.requestInputsMax,
): PackedRequests<Item> {
  const inputsMax = Math.min(requestInputsMax, limits.requestInputsMax);
  assert(inputsMax >= 1, 'a request holds at least one input');

  const requests: Item[][] = [];
  let request: Item[] = [];
  let requestBytes = 0;
  let bytes = 0;

  for (const input of inputs) {
    const full = request.length === inputsMax || requestBytes + input.bytes > limits.requestBytesMax;
    if (full && request.length > 0) {
      requests.push(request);
      request = [];
      requestBytes = 0;
    }
    request.push(input);
    requestBytes += input.bytes;
    bytes += input.bytes;
  }

  if (request.length > 0) requests.push(request);
  return { requests, inputs: inputs.length, bytes };
}

/**
 * How many inputs a request of a batch of `count` inputs may hold at its `attempt`, counted from 1.
 *
 * What fails five times although the provider answers others may be too much at once, or spoilt by one input that makes
 * the provider fail instead of refuse. So from the sixth attempt on, requests halve: n/2, n/4, n/8, at least one input.
 */
export function inputsMaxForAttempt(attempt: number, count: number): number {
  assert(attempt >= 1, 'attempts count from 1');
  const halvings = Math.max(0, attempt - SMALLER_REQUESTS_FROM_ATTEMPT + 1);
  return Math.max(1, Math.ceil(count / 2 ** halvings));
}
