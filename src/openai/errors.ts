import { APIConnectionTimeoutError, APIError } from 'openai';
import { classifyErrorIn200, classifyResponse } from '../core/classify-response.ts';
import { EmbedError, type EmbedErrorDetails, type FailureCode, UnplannedStatus } from '../core/failures.ts';
import { statedInputsMax } from '../core/input-caps.ts';
import { waitOf } from '../core/waits.ts';
import { type HeaderReader, limitsOf, waitSignsOf } from './headers.ts';
import { withoutSecrets } from './redact.ts';

/** What was sent, so that nothing of it stays in an error. */
export type Sent = { readonly secrets: readonly string[]; readonly texts: readonly string[] };

/**
 * Says in our words what the SDK, its fetch or a parser threw. The only file that knows both vocabularies.
 *
 * Returns an `EmbedError`, or an error that looks like the bug it is: one that this file does not know as it is, and one of an
 * unplanned status without the provider's words, which may quote a row.
 */
export function toEmbedError(error: unknown, sent: Sent, nowMs: number): Error {
  const own = ownFailure(error);
  if (own !== undefined) return own;
  if (error instanceof APIError && typeof error.status === 'number')
    return fromStatus(error, error.status, sent, nowMs);
  if (error instanceof APIConnectionTimeoutError)
    return new EmbedError('timed_out', { providerCode: causeCode(error) });
  // A RangeError: nested deeper than the stack.
  if (error instanceof SyntaxError || error instanceof RangeError) return new EmbedError('answer_malformed');

  const code = causeCode(error);
  const failure = code === undefined ? undefined : failureOfCode(code);
  if (failure !== undefined) return new EmbedError(failure, { providerCode: code });

  // Fetch says "fetch failed" and "terminated" without always saying why.
  const network =
    error instanceof APIError ||
    (error instanceof TypeError && /^(terminated|fetch failed)$/.test(error.message));
  if (network) return new EmbedError('connection_failed', { providerCode: code });
  return error instanceof Error
    ? error
    : new Error('The embeddings client threw something that is no error.');
}

/** The failure that an answer of status 200 holds under `error`, as some gateways send it. */
export function errorInAnswer(
  body: unknown,
  sent: Sent,
  headers: HeaderReader,
  nowMs: number,
): EmbedError | undefined {
  const said = errorIn(body);
  if (said === undefined) return undefined;
  const words = wordsOf(said);
  const status = Number(words.code);
  const details = detailsOf(200, words, sent, headers, nowMs);
  const code = classifyErrorIn200({
    ...words,
    status: status >= 400 && status < 600 ? status : 200,
    messageWithoutInputs: details.providerMessage,
  });
  return new EmbedError(code ?? 'answer_malformed', details);
}

/** What stands under `error`, or beside a code where vectors should be: `{"code":50508,"message":"System is too busy"}`. */
function errorIn(body: unknown): unknown {
  if (typeof body !== 'object' || body === null) return undefined;
  if ('error' in body && body.error) return body.error;
  const hasWords = 'message' in body && typeof body.message === 'string' && body.message !== '';
  return hasWords && !('data' in body && Array.isArray(body.data)) ? body : undefined;
}

function fromStatus(error: APIError, status: number, sent: Sent, nowMs: number): Error {
  // The SDK puts its own words around what is no JSON: "502 <html>…".
  const words: Words = error.error
    ? wordsOf(saidIn(error.error))
    : { message: cutWords(error.message.replace(/^\d{3} /, '')) };
  const details = detailsOf(status, words, sent, error.headers, nowMs);
  const code = classifyResponse({ status, ...words, messageWithoutInputs: details.providerMessage });
  if (code === undefined) {
    return new UnplannedStatus(status);
  }
  const inputsMax = MAY_BE_CAP.includes(code)
    ? statedInputsMax(details.providerMessage, sent.texts.length)
    : undefined;
  if (inputsMax !== undefined) return new EmbedError('request_too_large', { ...details, inputsMax });
  return new EmbedError(code, details);
}

/** Failures as which a limit on inputs may come, told by the words alone. */
const MAY_BE_CAP: readonly FailureCode[] = [
  'request_too_large',
  'input_rejected',
  'request_invalid',
  'provider_failed',
];

type Words = {
  readonly code?: string | undefined;
  readonly type?: string | undefined;
  readonly param?: string | undefined;
  readonly message?: string | undefined;
};

/**
 * The provider's words, whatever shape its error has: OpenAI's object, a string, FastAPI's `detail`, or "Bad Request" beside
 * the reason.
 */
function wordsOf(said: unknown): Words {
  if (typeof said !== 'object' || said === null) return { message: cutWords(String(said)) };
  const fields: Readonly<Record<string, unknown>> = { ...said };
  const { code, type, param, message, detail, error } = fields;
  const reason = [message, detail, error].find((words) => typeof words === 'string' && words !== '');
  return {
    code: wordOf(code),
    type: wordOf(type),
    param: wordOf(param),
    message: cutWords(typeof reason === 'string' ? reason : jsonOf(said)),
  };
}

/** What an error's body says: under `error` as OpenAI has it, or anywhere. */
function saidIn(body: unknown): unknown {
  const isNested = typeof body === 'object' && body !== null && 'error' in body;
  return isNested && typeof body.error === 'object' && body.error !== null ? body.error : body;
}

function wordOf(value: unknown): string | undefined {
  return typeof value === 'string' || typeof value === 'number'
    ? String(value).slice(0, WORDS_LENGTH_MAX)
    : undefined;
}

/** More of a provider's words than this is not looked at: a tenant's own endpoint may write any amount of them. */
const WORDS_LENGTH_MAX = 2_000;

function jsonOf(value: unknown): string {
  try {
    return JSON.stringify(value);
  } catch {
    // Nested deeper than the stack.
    return '';
  }
}

function cutWords(words: string): string {
  return words.slice(0, WORDS_LENGTH_MAX);
}

function detailsOf(
  status: number,
  words: Words,
  sent: Sent,
  headers: HeaderReader | undefined,
  nowMs: number,
): EmbedErrorDetails {
  const { message } = words;
  // The code and the id, too: servers other than OpenAI's may write anything there.
  const clean = (text: string | undefined) =>
    text === undefined ? undefined : withoutSecrets(text, sent.secrets, sent.texts);
  return {
    status,
    providerCode: clean(words.code ?? words.type),
    providerMessage: clean(message),
    param: clean(words.param),
    requestId: clean(headers?.get('x-request-id') ?? undefined),
    limits: headers === undefined ? null : limitsOf(headers),
    retryAfterMs: headers === undefined ? undefined : waitOf(waitSignsOf(headers, message), nowMs),
  };
}

/** A failure that our own fetch named; the SDK wraps all that a fetch throws. */
function ownFailure(error: unknown): EmbedError | undefined {
  const inner = error instanceof Error ? error.cause : undefined;
  return [error, inner].find((one) => one instanceof EmbedError);
}

/** The first error code along the chain of causes: `ECONNRESET`, `UND_ERR_BODY_TIMEOUT`, `CERT_HAS_EXPIRED`. */
function causeCode(error: unknown): string | undefined {
  let cause: unknown = error;
  for (let depth = 0; depth < 5 && cause instanceof Error; depth++) {
    if ('code' in cause && typeof cause.code === 'string') return cause.code;
    cause = cause.cause;
  }
  return undefined;
}

function failureOfCode(code: string): FailureCode | undefined {
  if (code === 'UND_ERR_DESTROYED' || code === 'UND_ERR_CLOSED') return 'shutting_down';
  if (code === 'ETIMEDOUT' || /^UND_ERR_(HEADERS|BODY|CONNECT)_TIMEOUT$/.test(code)) return 'timed_out';
  // Sockets, DNS, HTTP parsing, decompression. ERR_… are Node's words for a bug of ours.
  return /^(UND_ERR_SOCKET|HPE_|Z_|E(?!RR_)[A-Z_]+$)/.test(code) ? 'connection_failed' : undefined;
}
