import { type EmbedError, FAILURES, type FailureCode } from '../core/failures.ts';
import type { CredentialStatus } from '../db/tenant-credentials.ts';

/** What is known of a key, and why; the reason holds no secret. */
export type KeyVerdict = { readonly status: CredentialStatus; readonly reason: string | null };

const STATUS_BY_CODE: Partial<Readonly<Record<FailureCode, CredentialStatus>>> = {
  key_invalid: 'invalid',
  key_forbidden: 'invalid',
  redirected: 'invalid',
  endpoint_missing: 'invalid',
  quota_exhausted: 'quota_exhausted',
  model_unavailable: 'model_unavailable',
  rate_limited: 'rate_limited',
};

/** What a failure shows about the key that was used; undefined when it shows nothing. The reason holds no secret. */
export function statusAfter(error: EmbedError): KeyVerdict | undefined {
  const status = STATUS_BY_CODE[error.code];
  return status === undefined
    ? undefined
    : { status, reason: `${error.code}: ${FAILURES[error.code].because}${wordsOf(error)}` };
}

const WORDS_LENGTH_MAX = 300;

/** What the provider said; keys are masked in it. */
function wordsOf({ providerMessage = '' }: EmbedError): string {
  return providerMessage === '' ? '' : `. The provider said: ${providerMessage.slice(0, WORDS_LENGTH_MAX)}`;
}
