import type { FailureCode } from './failures.ts';

/** What a provider said when it refused, as it said it. */
export type Refusal = {
  /** HTTP status; 200 when an error came in the body of a success. */
  readonly status: number;
  readonly code?: string | null | undefined;
  readonly type?: string | null | undefined;
  readonly param?: string | null | undefined;
  readonly message?: string | null | undefined;
  /** The message without what it quotes of the inputs, where it may quote some. */
  readonly messageWithoutInputs?: string | null | undefined;
};

/**
 * Names the failure behind a provider's answer.
 *
 * `code` and `type` come first, since one and the same reason arrives under several statuses and in either field; then the
 * status; the message only where nothing else tells, and there no input that it quotes decides. Returns undefined for an
 * answer that nobody has planned for: the caller lets that one crash as the bug it is.
 */
export function classifyResponse(refusal: Refusal): FailureCode | undefined {
  const { status } = refusal;
  if (status >= 300 && status < 400) return 'redirected';

  const named = nameOf(refusal.code) ?? nameOf(refusal.type);
  if (named === 'rate_limited' && saysTooLarge(refusal)) return 'request_too_large';
  if (named !== undefined) return named;

  if (status === 400 || status === 422) return classifyBadRequest(refusal);
  if (status === 429) return saysTooLarge(refusal) ? 'request_too_large' : 'rate_limited';
  if (status === 403 && saysHtml(refusal)) return 'provider_failed';
  if (status === 404 && /\bmodel\b|\bdeployment\b/i.test(refusal.message ?? '')) return 'model_unavailable';
  if (status >= 500) return 'provider_failed';
  return CODE_BY_STATUS[status];
}

/** Words of a trouble that passes by itself. */
const TRANSIENT =
  /temporar|overload|too busy|is busy|try again|unavailable|timed? ?out|internal (server )?error|upstream|provider returned|capacity|bad gateway/i;

/**
 * Names an error that came with status 200. Whatever code stands in it, words that speak of a passing trouble say nothing
 * against a key, an address or our request.
 */
export function classifyErrorIn200(refusal: Refusal): FailureCode | undefined {
  const code = classifyResponse(refusal);
  const isNamed = (nameOf(refusal.code) ?? nameOf(refusal.type)) === code && code !== undefined;
  if (isNamed && code !== 'request_invalid') return code;
  const words = refusal.messageWithoutInputs ?? refusal.message ?? '';
  if (/rate.?limit|too many requests/i.test(words)) return 'rate_limited';
  return TRANSIENT.test(words) ? 'provider_failed' : code;
}

/**
 * Codes and types as OpenAI, Azure and the gateways before them write them, in lower case.
 *
 * `rate_limit_exceeded` also carries "Request too large", which the caller sorts out. `tokens` and `requests` are the types
 * that OpenAI gives a 429 of either limit.
 */
const CODE_BY_NAME: Readonly<Record<string, FailureCode>> = {
  rate_limit_exceeded: 'rate_limited',
  rate_limit_error: 'rate_limited',
  slow_down: 'rate_limited',
  too_many_requests: 'rate_limited',
  tokens: 'rate_limited',
  requests: 'rate_limited',

  insufficient_quota: 'quota_exhausted',
  credit_balance_exhausted: 'quota_exhausted',
  billing_hard_limit_reached: 'quota_exhausted',
  billing_not_active: 'quota_exhausted',

  invalid_api_key: 'key_invalid',
  account_deactivated: 'key_invalid',
  unsupported_country_region_territory: 'key_forbidden',
  ip_not_authorized: 'key_forbidden',
  model_not_found: 'model_unavailable',
  deploymentnotfound: 'model_unavailable',

  max_tokens_per_request: 'request_too_large',
  array_above_max_length: 'request_too_large',

  context_length_exceeded: 'input_rejected',
  string_above_max_length: 'input_rejected',
  content_policy_violation: 'input_rejected',
  content_filter: 'input_rejected',

  unknown_parameter: 'request_invalid',
  unsupported_parameter: 'request_invalid',

  server_error: 'provider_failed',
  internal_server_error: 'provider_failed',
  engine_overloaded: 'provider_failed',
  overloaded_error: 'provider_failed',
  service_unavailable: 'provider_failed',
};

const CODE_BY_STATUS: Readonly<Record<number, FailureCode>> = {
  401: 'key_invalid',
  402: 'quota_exhausted',
  403: 'key_forbidden',
  404: 'endpoint_missing',
  405: 'endpoint_missing',
  408: 'provider_failed',
  409: 'provider_failed',
  410: 'endpoint_missing',
  413: 'request_too_large',
  421: 'provider_failed',
  424: 'provider_failed',
  425: 'provider_failed',
};

function nameOf(name: string | null | undefined): FailureCode | undefined {
  if (typeof name !== 'string') return undefined;
  const lower = name.toLowerCase();
  if (Object.hasOwn(CODE_BY_NAME, lower)) return CODE_BY_NAME[lower];
  return /_(spend|usage)_limit_exceeded$/.test(lower) ? 'quota_exhausted' : undefined;
}

/**
 * Names a 400, whatever words the inputs hold that its message quotes.
 *
 * An input may say "API key" or "dimensions", and it may say "maximum context length", which is then missing where the
 * quotation was taken out. So a message that reads differently without it is taken to be about an input: the request is
 * split, and the parts without that input, or the plain word that is sent when none is accepted, show what it is about.
 */
function classifyBadRequest(refusal: Refusal): FailureCode {
  const { message, messageWithoutInputs = message } = refusal;
  // A proxy's page, not the provider's word on our request, whatever a document among the inputs has in common with it.
  if (saysHtml(refusal)) return 'provider_failed';
  const code = readBadRequest(refusal);
  return readBadRequest({ ...refusal, message: messageWithoutInputs }) === code ? code : 'input_rejected';
}

/**
 * Tells a 400 about what an input says from a 400 about how we ask.
 *
 * The difference decides between one quarantined row and a stopped run, so a message counts as being about an input only
 * if it says so. OpenAI leaves `code` and `param` null for both kinds ("'$.input' is invalid", "maximum context length").
 */
function readBadRequest(refusal: Refusal): FailureCode {
  const { status, param } = refusal;
  const message = refusal.message ?? '';

  if (saysTooLarge(refusal)) return 'request_too_large';
  if (/\bapi[ _-]?key\b/i.test(message)) return 'key_invalid';

  if (param) return aboutInput(param) ? 'input_rejected' : aboutModel(param, message);
  if (
    /dimension|encoding_format|matryoshka|unrecognized|unknown (parameter|field|argument)|additional properties|extra (inputs|fields)|unexpected (keyword|field|parameter|argument|property)/i.test(
      message,
    )
  ) {
    return 'request_invalid';
  }
  if (/\bmodel\b.{0,200}\b(not found|not exist|not supported)\b/i.test(message)) return 'model_unavailable';

  const about = /\binput(s|\[\d+\]|\.\w+)?\b|\bempty string\b|content (policy|filter)/i;
  if (about.test(message) || TOO_LONG.test(message)) return 'input_rejected';
  // 422 means "understood, but cannot be processed": servers use it for what an input holds.
  return status === 422 ? 'input_rejected' : 'request_invalid';
}

const TOO_LONG = /context[ _](length|size)|n_ctx|too long|too many tokens|maximum.{0,200}\btokens\b/i;

/** Whether a refusal gives the length of an input as its reason, and so is not about the request whatever it holds. */
export function saysTooLong({ code, message }: Pick<Refusal, 'code' | 'message'>): boolean {
  return (
    /^(context_length_exceeded|string_above_max_length)$/i.test(code ?? '') || TOO_LONG.test(message ?? '')
  );
}

function aboutInput(param: string): boolean {
  return /^\$?\.?inputs?\b/i.test(param);
}

function aboutModel(param: string, message: string): FailureCode {
  const unavailable = param === 'model' && /not (found|exist|available|supported)|no access/i.test(message);
  return unavailable ? 'model_unavailable' : 'request_invalid';
}

function saysTooLarge({ message }: Refusal): boolean {
  return /request too large|tokens per request|maximum request size|too many (inputs|items|texts|elements|instances|tokens in batch)|batch[ _]size|(array|list|batch) (is )?too (long|large|big)|(array|list) length/i.test(
    message ?? '',
  );
}

function saysHtml({ message }: Refusal): boolean {
  return /^\s*(<!doctype|<html|<head)/i.test(message ?? '');
}
