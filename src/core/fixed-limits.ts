/** Limits that an operator set for one credential: unlike a provider's, they must hold for every minute one can look at. */
import { strict as assert } from 'node:assert';
import type { StatedLimit } from './credential.ts';
import type { Bucket } from './pacing.ts';

export type Rate = { readonly capacity: number; readonly perMinute: number };
/** Null where the operator set nothing. */
export type FixedRates = { readonly requests: Rate | null; readonly tokens: Rate | null };
/** What is left in the buckets of a credential; mirrored by `pacing/pace.lua`. */
export type FixedLevels = { readonly atMs: number; readonly requests: number; readonly tokens: number };
export type Fixed = { readonly levels: FixedLevels; readonly rates: FixedRates };

/** Refilled as if a minute had 61 seconds: a call may leave up to a second after its place was given. */
const MINUTE_S = 61;
const REQUESTS_BURST = 0.02;
const TOKENS_BURST = 0.1;
/** Tokens are estimated. What an estimate missed is paid back at once, but what is on its way meanwhile needs room. */
const TOKENS_USED_MAX = 0.95;
/** The longest input that OpenAI takes, so that one fits where the limit allows it at all. Source: OpenAI API reference. */
const INPUT_TOKENS_MAX = 8_192;

/**
 * Buckets that keep a credential's fixed limits in every 60 s, and not only on average.
 *
 * A bucket lets through at most its capacity plus its refill, so the two together stay below the limit. For requests,
 * which are whole, that means below `limit + 1`. A single request of more tokens than the capacity goes when the bucket is
 * full and is the one thing that can exceed the limit: pack by `requestTokensMax`.
 *
 * @throws {AssertionError} for a limit below 1.
 */
export function fixedRates({
  requestsPerMinute,
  tokensPerMinute,
}: {
  readonly requestsPerMinute: StatedLimit;
  readonly tokensPerMinute: StatedLimit;
}): FixedRates | null {
  const requests = typeof requestsPerMinute === 'number' ? requestsRate(requestsPerMinute) : null;
  const tokens = typeof tokensPerMinute === 'number' ? tokensRate(tokensPerMinute) : null;
  return requests === null && tokens === null ? null : { requests, tokens };
}

function requestsRate(limit: number): Rate {
  assert(limit >= 1, `requestsPerMinute must be at least 1, got ${limit}`);
  const capacity = Math.max(1, Math.floor(limit * REQUESTS_BURST));
  return { capacity, perMinute: ((Math.floor(limit) + 1 - capacity) * 60) / MINUTE_S };
}

function tokensRate(limit: number): Rate {
  assert(limit >= 1, `tokensPerMinute must be at least 1, got ${limit}`);
  const capacity = Math.min(limit / 2, Math.max(limit * TOKENS_BURST, INPUT_TOKENS_MAX));
  return { capacity, perMinute: ((limit * TOKENS_USED_MAX - capacity) * 60) / MINUTE_S };
}

export function openFixed(nowMs: number, rates: FixedRates): FixedLevels {
  return { atMs: nowMs, requests: rates.requests?.capacity ?? 0, tokens: rates.tokens?.capacity ?? 0 };
}

/** Lets time pass. A limit that was lowered meanwhile holds at once. */
export function refillFixed(levels: FixedLevels, nowMs: number, rates: FixedRates): FixedLevels {
  const minutes = Math.max(0, nowMs - levels.atMs) / 60_000;
  const filled = (level: number, rate: Rate | null) =>
    rate === null ? 0 : Math.min(rate.capacity, level + rate.perMinute * minutes);
  return {
    atMs: Math.max(levels.atMs, nowMs),
    requests: filled(levels.requests, rates.requests),
    tokens: filled(levels.tokens, rates.tokens),
  };
}

/** Takes (or, with negative units, gives back). */
export function drawFixed(levels: FixedLevels, requests: number, tokens: number): FixedLevels {
  return { ...levels, requests: levels.requests - requests, tokens: levels.tokens - tokens };
}

export function fixedBucket(
  kind: 'requests' | 'tokens',
  levels: FixedLevels,
  rates: FixedRates,
): Bucket | null {
  const rate = rates[kind];
  return rate === null ? null : { ...rate, level: levels[kind] };
}
