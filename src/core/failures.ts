import type { ProviderLimits } from './provider-limits.ts';

/**
 * What a worker does about a failure:
 *
 * - `retry`: the batch runs again after a backoff; uses up one of its attempts.
 * - `snooze`: the batch runs again later; uses up no attempt.
 * - `split`: the request is halved and its halves are sent; an input that is refused alone is quarantined.
 * - `quarantine`: the row is set aside until its text or the target's model changes; the rest carries on.
 * - `stop_tenant`: nothing more of this tenant is sent in this run; the other tenants carry on.
 * - `stop_run`: nothing more of the run is sent; a person must act, and no row is to blame.
 */
export type Verdict = 'retry' | 'snooze' | 'split' | 'quarantine' | 'stop_tenant' | 'stop_run';

/** Every way in which embedding fails. `docs/failures.md` shows the same table and what to do about each; a test compares them. */
export const FAILURES = {
  rate_limited: { verdict: 'snooze', because: 'a 429 is a wait, and the provider says how long' },
  paced: { verdict: 'snooze', because: 'our own pacing keeps the account under its limit' },
  account_paused: {
    verdict: 'snooze',
    because: 'the provider failed several times in a row; one probe at a time finds out when it is back',
  },
  shutting_down: {
    verdict: 'snooze',
    because: 'the work was stopped from our side, and another worker takes it over',
  },

  key_replaced: { verdict: 'snooze', because: 'the tenant has another key by now, and that one is tried' },
  database_unavailable: {
    verdict: 'snooze',
    because: 'Postgres is away or too busy, and no row is to blame for that',
  },

  database_refused: {
    verdict: 'stop_run',
    because: 'a right or a column is missing in Postgres, and no vector could be written',
  },

  write_undone: {
    verdict: 'stop_run',
    because:
      'rows that were written have no embedding: something of the table takes it away, or skips the update',
  },

  request_too_large: { verdict: 'split', because: 'the same inputs fit in smaller requests' },
  input_rejected: {
    verdict: 'split',
    because: 'one refused input refuses the whole request, and only that input is to blame',
  },
  input_too_long: { verdict: 'quarantine', because: 'no request can hold it' },

  row_refused: {
    verdict: 'quarantine',
    because: 'a trigger or a constraint of the table refuses this row with its vector',
  },
  value_out_of_range: {
    verdict: 'quarantine',
    because: 'the column is halfvec, which holds no number beyond 65,504',
  },

  quota_exhausted: { verdict: 'stop_tenant', because: 'it may arrive as a 429, but only money ends it' },
  key_invalid: { verdict: 'stop_tenant', because: 'no request succeeds until the key is replaced' },
  key_forbidden: {
    verdict: 'stop_tenant',
    because: 'the key is known, but not allowed to do this from here',
  },
  key_missing: {
    verdict: 'stop_tenant',
    because: "the tenant has no key of its own and may not use the platform's",
  },
  key_unreadable: { verdict: 'stop_tenant', because: 'the stored key does not open with CREDENTIALS_KEY' },
  address_refused: {
    verdict: 'stop_tenant',
    because: "keys may not be sent to the credential's base URL",
  },
  model_unavailable: {
    verdict: 'stop_tenant',
    because: 'this key may not use the model, or the model is gone',
  },
  model_wrong_dimensions: {
    verdict: 'stop_tenant',
    because: "the vector of a plain word does not fit the column either, so no row's will",
  },
  endpoint_missing: {
    verdict: 'stop_tenant',
    because: 'the base URL does not lead to an embeddings endpoint',
  },
  provider_unusable: {
    verdict: 'stop_tenant',
    because: 'nothing that came back for a plain word could be used, time and again',
  },
  redirected: { verdict: 'stop_tenant', because: 'a key is never sent on to where a redirect points' },

  request_invalid: { verdict: 'stop_run', because: 'our request is wrong, and every row would be refused' },

  provider_failed: { verdict: 'retry', because: "the provider's own errors pass" },
  connection_failed: { verdict: 'retry', because: 'dropped connections pass' },
  timed_out: { verdict: 'retry', because: 'a slow answer is usually followed by a quick one' },

  answer_malformed: { verdict: 'retry', because: 'what came back is not an embeddings answer' },
  answer_wrong_count: { verdict: 'retry', because: 'vectors and inputs cannot be paired' },
  answer_duplicate_index: { verdict: 'retry', because: 'two vectors claim the same input' },
  answer_wrong_dimensions: { verdict: 'retry', because: 'the vectors do not fit the column' },
  answer_not_finite: { verdict: 'retry', because: 'a vector with NaN or infinity finds nothing' },
  answer_all_zero: { verdict: 'retry', because: 'a vector of zeros has no direction, so nothing is near it' },
} as const satisfies Record<string, { verdict: Verdict; because: string }>;

export type FailureCode = keyof typeof FAILURES;

/** A provider's message is kept to this many characters: enough to understand it, too few to carry a document. */
export const PROVIDER_MESSAGE_LENGTH_MAX = 500;

export type EmbedErrorDetails = {
  /** How long to stay away, in milliseconds from now. */
  readonly retryAfterMs?: number | undefined;
  /** HTTP status of the answer; absent when there was none. */
  readonly status?: number | undefined;
  /** The provider's own `code` or `type`, or the operating system's error code. */
  readonly providerCode?: string | undefined;
  /** The parameter that the provider names. */
  readonly param?: string | undefined;
  /** The provider's own words. The caller takes the rows' texts and the key out; anything like a key is masked again here. */
  readonly providerMessage?: string | undefined;
  /** The provider's `x-request-id`, for its support. */
  readonly requestId?: string | undefined;
  /** What the answer's headers said about limits; null when there was no answer. */
  readonly limits?: ProviderLimits | null | undefined;
  /** The same request may be sent again at once: it will have another form, which the server may take. */
  readonly again?: boolean | undefined;
  /** The most inputs that a request may hold, as the server said it or as was found out. */
  readonly inputsMax?: number | undefined;
  /** A plain word was answered right after: the work is to blame, and not the provider. */
  readonly othersPass?: boolean | undefined;
};

/**
 * A failure with a name and a verdict. Anything else that is thrown is a bug.
 *
 * Neither the message nor any property holds a key or a row's text, and there is no `cause`: the errors of the SDK carry
 * both, and loggers print causes.
 */
export class EmbedError extends Error {
  override readonly name = 'EmbedError';
  readonly code: FailureCode;
  readonly retryAfterMs: number | undefined;
  readonly status: number | undefined;
  readonly providerCode: string | undefined;
  readonly providerMessage: string | undefined;
  readonly param: string | undefined;
  readonly requestId: string | undefined;
  readonly limits: ProviderLimits | null;
  readonly again: boolean;
  readonly inputsMax: number | undefined;
  readonly othersPass: boolean;

  constructor(code: FailureCode, details: EmbedErrorDetails = {}) {
    super(`${code}: ${FAILURES[code].because}`);
    this.code = code;
    this.retryAfterMs = details.retryAfterMs;
    this.status = details.status;
    this.providerCode = cut(details.providerCode);
    this.providerMessage = cut(details.providerMessage);
    this.param = cut(details.param);
    this.requestId = cut(details.requestId);
    this.limits = details.limits ?? null;
    this.again = details.again ?? false;
    this.inputsMax = details.inputsMax;
    this.othersPass = details.othersPass ?? false;
  }

  get verdict(): Verdict {
    return FAILURES[this.code].verdict;
  }
}

/** A provider's answer of a status that nobody planned for. In a run it is a bug and looks like one. Holds none of its words. */
export class UnplannedStatus extends Error {
  override readonly name = 'UnplannedStatus';
  readonly status: number;

  constructor(status: number) {
    super(`The provider answered with status ${status}, which core/classify-response.ts does not name.`);
    this.status = status;
  }
}

/** The code under which a row is quarantined that was refused, or fails, alone: too large a request of one input is too long an input. */
export function quarantineCode(refusal: FailureCode): FailureCode {
  if (refusal === 'request_too_large') return 'input_too_long';
  // Refused alone, or failed alone, while a plain word was answered.
  return FAILURES[refusal].verdict === 'split' ? refusal : 'input_rejected';
}

function cut(text: string | undefined): string | undefined {
  return text === undefined
    ? undefined
    : maskKeys(text.slice(0, 2 * PROVIDER_MESSAGE_LENGTH_MAX)).slice(0, PROVIDER_MESSAGE_LENGTH_MAX);
}

/** Masks all that looks like a key, and what a provider half masked itself ("Incorrect API key provided: ab12****9z"). */
function maskKeys(text: string): string {
  return text
    .replaceAll(/[^\s*]{0,100}\*{3,}\S*/g, '***')
    .replaceAll(/\bsk-[\w-]+/g, 'sk-***')
    .replaceAll(/\bBearer\s+\S+/gi, 'Bearer ***');
}
