import type { Account, Meter } from '../core/account.ts';
import type { FixedRates } from '../core/fixed-limits.ts';
import { UNBOUNDED } from '../core/limit-search.ts';
import type { PacingRules } from '../core/pacing-rules.ts';

/** An account as `pace.lua` shows it: refilled to `nowMs`, with the number of those who wait in line. */
export type Look = Account & { readonly nowMs: number; readonly waiters: number };

/** What people see of an account. Times are milliseconds since 1970 by Redis's clock; null where there is none. */
export type AccountStatus = {
  /** As the provider reports them; null while it has not. */
  readonly limits: { readonly requestsPerMinute: number | null; readonly tokensPerMinute: number | null };
  /** What is let through now, without fixed limits; null while nothing is known that would bound it. */
  readonly rates: { readonly requestsPerMinute: number | null; readonly tokensPerMinute: number | null };
  /** Requests that may be on their way at once; null where that is not bounded. */
  readonly concurrency: number | null;
  readonly breaker: 'closed' | 'open' | 'half_open';
  readonly openUntilMs: number | null;
  readonly cooldownUntilMs: number | null;
  readonly failures: number;
  readonly waiters: number;
  readonly bytesPerToken: number;
};

export function statusFrom(look: Look): AccountStatus {
  const breaker = look.openUntilMs === 0 ? 'closed' : look.nowMs < look.openUntilMs ? 'open' : 'half_open';
  return {
    limits: { requestsPerMinute: look.requests.limit || null, tokensPerMinute: look.tokens.limit || null },
    rates: { requestsPerMinute: rateOf(look.requests), tokensPerMinute: rateOf(look.tokens) },
    concurrency: look.search.concurrency || null,
    breaker,
    openUntilMs: breaker === 'open' ? look.openUntilMs : null,
    cooldownUntilMs: look.cooldownUntilMs > look.nowMs ? look.cooldownUntilMs : null,
    failures: look.failures,
    waiters: look.waiters,
    bytesPerToken: look.bytesPerToken,
  };
}

function rateOf({ perMinute }: Meter): number | null {
  return perMinute < UNBOUNDED ? perMinute : null;
}

export type RequestMax = { readonly requestTokensMax: number; readonly requestBytesMax: number };

/** A request of a quarter of a minute's tokens is not refused as too large even if its estimate is wrong by a factor of 3. */
const REQUEST_OF_MINUTE = 1 / 4;

/** The largest request that flows, in tokens and in bytes: at `requestBytesMax` the estimate is `requestTokensMax`. */
export function requestMaxFrom(look: Look, fixed: FixedRates | null, rules: PacingRules): RequestMax {
  const shared = (look.tokens.limit || look.tokens.perMinute) * REQUEST_OF_MINUTE;
  const requestTokensMax = Math.max(1, Math.floor(Math.min(shared, fixed?.tokens?.capacity ?? shared)));
  const requestBytesMax = Math.floor((requestTokensMax * look.bytesPerToken) / rules.estimateMargin);
  return { requestTokensMax, requestBytesMax: Math.max(1, requestBytesMax) };
}
