import type { ProviderLimits } from '../core/provider-limits.ts';
import { durationMs, type WaitSigns } from '../core/waits.ts';

/** The part of `Headers` that reading needs. */
export type HeaderReader = { get(name: string): string | null };

/** Reads what a provider says about its limits; null where it says nothing or nothing legible. */
export function limitsOf(headers: HeaderReader): ProviderLimits {
  return {
    requestsLimit: countOf(headers, 'x-ratelimit-limit-requests'),
    requestsRemaining: countOf(headers, 'x-ratelimit-remaining-requests'),
    requestsResetMs: durationMs(headers.get('x-ratelimit-reset-requests')),
    tokensLimit: countOf(headers, 'x-ratelimit-limit-tokens'),
    tokensRemaining: countOf(headers, 'x-ratelimit-remaining-tokens'),
    tokensResetMs: durationMs(headers.get('x-ratelimit-reset-tokens')),
  };
}

/** Gathers all that an answer says about when to come back, `message` included, for `waitOf`. */
export function waitSignsOf(headers: HeaderReader, message: string | undefined): WaitSigns {
  const { requestsRemaining, requestsResetMs, tokensRemaining, tokensResetMs } = limitsOf(headers);
  return {
    retryAfterMs: headers.get('retry-after-ms'),
    retryAfter: headers.get('retry-after'),
    date: headers.get('date'),
    requestsRemaining,
    requestsResetMs,
    tokensRemaining,
    tokensResetMs,
    message,
  };
}

function countOf(headers: HeaderReader, name: string): number | null {
  const value = headers.get(name)?.trim() ?? '';
  return /^\d{1,15}$/.test(value) ? Number(value) : null;
}
