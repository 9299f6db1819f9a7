/**
 * Rate limits as OpenAI keeps them: one bucket for requests and one for tokens, refilled continuously.
 *
 * Pure: the caller brings the clock, in milliseconds.
 */

export type Bucket = {
  /** What flows in per minute; also what the API calls the limit. */
  readonly perMinute: number;
  /** The most that may be spent at once: the limit itself unless the burst is set shorter than a minute. */
  readonly capacity: number;
  readonly level: number;
  readonly atMs: number;
};

/** Null where nothing is limited. */
export type Buckets = { readonly requests: Bucket | null; readonly tokens: Bucket | null };

export type Refusal = {
  readonly of: 'requests' | 'tokens';
  /** More than the bucket ever holds: waiting does not help. */
  readonly tooLarge: boolean;
  readonly limit: number;
  readonly used: number;
  readonly requested: number;
  /** Until the same request would be let through, if nobody else comes in between. 0 with `tooLarge`. */
  readonly waitMs: number;
};

/** Seconds' worth of the limit that an idle account may spend at once. Source: a real 429 shows Used up to the whole limit. */
export const BURST_SECONDS_DEFAULT = 60;

const MINUTE_MS = 60_000;

export function fullBucket(perMinute: number, burstSeconds: number, nowMs: number): Bucket {
  const capacity = Math.max(1, (perMinute * burstSeconds) / 60);
  return { perMinute, capacity, level: capacity, atMs: nowMs };
}

export function refill(bucket: Bucket, nowMs: number): Bucket {
  const gained = ((nowMs - bucket.atMs) * bucket.perMinute) / MINUTE_MS;
  const level = Math.min(bucket.capacity, bucket.level + Math.max(0, gained));
  return { ...bucket, level, atMs: Math.max(nowMs, bucket.atMs) };
}

/** Milliseconds until `amount` is there; Infinity when nothing flows in. */
export function waitMsFor(bucket: Bucket, amount: number): number {
  const lacking = amount - bucket.level;
  return lacking <= 0 ? 0 : (lacking * MINUTE_MS) / bucket.perMinute;
}

/** Takes what is there of `amount`, at most all: a level is never negative. */
export function drain(bucket: Bucket, amount: number): Bucket {
  return { ...bucket, level: Math.max(0, bucket.level - amount) };
}

/**
 * Lets one request of `tokens` tokens through, or says why not.
 *
 * A refused request still counts as a request, as OpenAI documents, so a client that hammers stays locked out;
 * its tokens are not taken.
 */
export function admit(
  buckets: Buckets,
  tokens: number,
  nowMs: number,
): { readonly after: Buckets; readonly refusal: Refusal | null } {
  const requests = buckets.requests && refill(buckets.requests, nowMs);
  const tokenBucket = buckets.tokens && refill(buckets.tokens, nowMs);
  const spent = requests && drain(requests, 1);

  if (requests && spent && requests.level < 1) {
    // The wait is counted from the level after the penalty: a client that obeys it gets through.
    return {
      after: { requests: spent, tokens: tokenBucket },
      refusal: refusalOf('requests', requests, spent, 1),
    };
  }
  if (tokenBucket && tokenBucket.level < tokens) {
    const refusal = refusalOf('tokens', tokenBucket, tokenBucket, tokens);
    return { after: { requests: spent, tokens: tokenBucket }, refusal };
  }
  return { after: { requests: spent, tokens: tokenBucket && drain(tokenBucket, tokens) }, refusal: null };
}

function refusalOf(of: Refusal['of'], before: Bucket, after: Bucket, requested: number): Refusal {
  const tooLarge = requested > before.capacity;
  const limit = Math.floor(tooLarge ? before.capacity : before.perMinute);
  const used = Math.max(0, Math.ceil(limit - before.level));
  const waitMs = tooLarge ? 0 : Math.ceil(waitMsFor(after, requested));
  return { of, tooLarge, limit, used, requested, waitMs };
}

/** Writes a duration as OpenAI's headers and messages do: `12ms`, `2.812s`, `6m0s`, `1h0m0s`. */
export function formatDuration(ms: number): string {
  const rounded = Math.ceil(ms);
  if (rounded < 1_000) return `${rounded}ms`;

  const hours = Math.floor(rounded / 3_600_000);
  const minutes = Math.floor((rounded % 3_600_000) / MINUTE_MS);
  const seconds = `${(rounded % MINUTE_MS) / 1_000}s`;
  if (hours > 0) return `${hours}h${minutes}m${seconds}`;
  return minutes > 0 ? `${minutes}m${seconds}` : seconds;
}

/** The `x-ratelimit-*` headers after a request; empty for what has no limit, as compatible servers leave it out. */
export function limitHeaders({ requests, tokens }: Buckets): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [name, bucket] of [['requests', requests] as const, ['tokens', tokens] as const]) {
    if (bucket === null) continue;
    headers[`x-ratelimit-limit-${name}`] = String(bucket.perMinute);
    headers[`x-ratelimit-remaining-${name}`] = String(Math.floor(bucket.level));
    headers[`x-ratelimit-reset-${name}`] = formatDuration(waitMsFor(bucket, bucket.capacity));
  }
  return headers;
}
