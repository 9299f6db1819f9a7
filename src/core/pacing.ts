/**
 * The arithmetic of pacing: two leaky buckets an account, one of requests and one of tokens.
 *
 * Production runs it inside Redis, as `pacing/pace.lua`, so that all workers share one bucket and one clock. This is the
 * same in a language that can be tested; a test holds the two together, step by step. Times are milliseconds of that clock.
 */
import type { MeterRules, PacingRules } from './pacing-rules.ts';
import type { ProviderLimits } from './provider-limits.ts';

/** One bucket of an account. */
export type Meter = {
  /** Units that may be taken now; below zero when places are booked or an estimate was too low. */
  readonly level: number;
  /** Units a minute that are let through now. */
  readonly perMinute: number;
  /** Units a minute that the provider says it allows; 0 while it has not said. */
  readonly limit: number;
  /** Units taken since the account is known: tells what was taken after a given reservation. */
  readonly taken: number;
};

/** All that is known of an account: what a provider limits together. */
export type Account = {
  readonly bornMs: number;
  readonly atMs: number;
  readonly requests: Meter;
  readonly tokens: Meter;
  readonly bytesPerToken: number;
  /** 1 once the provider has answered at all. */
  readonly heard: number;
  /** `taken` of requests at the youngest reservation whose answer was heard. */
  readonly seen: number;
  /** When the rate was last set by the provider, or cut. */
  readonly changedMs: number;
  readonly cooldownUntilMs: number;
  /** Provider failures since the last success. */
  readonly failures: number;
  /** How often the breaker opened since the last success. */
  readonly openings: number;
  /** The breaker lets nothing through before this, and after it only a probe; 0 when it is closed. */
  readonly openUntilMs: number;
  /** Somebody is probing until then; 0 when nobody is. */
  readonly probeUntilMs: number;
};

/** What a reservation took, and when: enough to settle it. */
export type Taken = {
  readonly takenMs: number;
  readonly bytes: number;
  /** The estimate. */
  readonly tokens: number;
  /** `taken` of either bucket, this reservation included. */
  readonly requestsTaken: number;
  readonly tokensTaken: number;
};

export type Bucket = { readonly level: number; readonly capacity: number; readonly perMinute: number };
export type Kind = 'requests' | 'tokens';

const MINUTE_MS = 60_000;

/** An account that nobody has used yet, or whose state was lost. */
export function openAccount(nowMs: number, rules: PacingRules): Account {
  const meter = ({ startPerMinute }: MeterRules): Meter => ({
    level: (startPerMinute * rules.guessBurstMs) / MINUTE_MS,
    perMinute: startPerMinute,
    limit: 0,
    taken: 0,
  });
  return {
    bornMs: nowMs,
    atMs: nowMs,
    requests: meter(rules.requests),
    tokens: meter(rules.tokens),
    bytesPerToken: rules.bytesPerTokenStart,
    heard: 0,
    seen: 0,
    changedMs: 0,
    cooldownUntilMs: 0,
    failures: 0,
    openings: 0,
    openUntilMs: 0,
    probeUntilMs: 0,
  };
}

/**
 * The most that a bucket holds. A provider's own bucket holds a minute's worth, and we stay a cushion below it; while its
 * limit is a guess, a few seconds' worth.
 */
export function capacityOf(
  meter: Meter,
  { cushionOfLimit }: MeterRules,
  { guessBurstMs }: PacingRules,
): number {
  return meter.limit > 0 ? meter.limit * (1 - cushionOfLimit) : (meter.perMinute * guessBurstMs) / MINUTE_MS;
}

/** Lets time pass. Calling it twice with the same time changes nothing; a clock that goes back is taken to stand still. */
export function refill(account: Account, nowMs: number, rules: PacingRules): Account {
  const elapsedMs = Math.max(0, nowMs - account.atMs);
  return {
    ...account,
    atMs: account.atMs + elapsedMs,
    requests: refillMeter(account.requests, elapsedMs, rules.requests, rules),
    tokens: refillMeter(account.tokens, elapsedMs, rules.tokens, rules),
  };
}

function refillMeter(meter: Meter, elapsedMs: number, kind: MeterRules, rules: PacingRules): Meter {
  const capacity = capacityOf(meter, kind, rules);
  const level = Math.min(capacity, meter.level + (meter.perMinute * elapsedMs) / MINUTE_MS);
  // A full bucket says that the rate is not what holds the work back: it would rise without ever being tried.
  const perMinute = level < capacity ? grown(meter, elapsedMs, kind, rules) : meter.perMinute;
  return { ...meter, level, perMinute };
}

function grown(meter: Meter, elapsedMs: number, kind: MeterRules, rules: PacingRules): number {
  const minutes = Math.min(elapsedMs, rules.growthMsMax) / MINUTE_MS;
  const base = meter.limit > 0 ? meter.limit : Math.min(meter.perMinute, kind.startPerMinute);
  const recovered = meter.perMinute + base * rules.recoveryPerMinute * minutes;
  const ramped = Math.max(kind.rampFromPerMinute, meter.perMinute * (1 + rules.rampPerMinute * minutes));
  const ceiling = meter.limit > 0 ? meter.limit * rules.rateOfLimit : recovered;
  return Math.min(recovered, ramped, ceiling);
}

/** Tokens that a request probably costs. Never more than its bytes, never less than one an input. */
export function estimateTokens(
  { inputs, bytes }: { inputs: number; bytes: number },
  bytesPerToken: number,
  rules: PacingRules,
): number {
  return Math.max(1, inputs, Math.min(bytes, Math.ceil((bytes / bytesPerToken) * rules.estimateMargin)));
}

/**
 * Milliseconds until `units` may be taken after the `ahead` units of those who came before.
 *
 * More than the bucket can ever hold may be taken when it is full; it goes into debt and pays back over time.
 */
export function waitMsFor(bucket: Bucket, units: number, ahead: number): number {
  const missing = ahead + Math.min(units, bucket.capacity) - bucket.level;
  return missing <= 0 ? 0 : Math.ceil((missing / bucket.perMinute) * MINUTE_MS);
}

/** Takes one request and its tokens from an account. Whether they may be taken is the caller's decision. */
export function take(account: Account, tokens: number): Account {
  return {
    ...account,
    requests: draw(account.requests, 1),
    tokens: draw(account.tokens, tokens),
  };
}

function draw(meter: Meter, units: number): Meter {
  return { ...meter, level: meter.level - units, taken: meter.taken + units };
}

/** Gives back what was taken and not sent. A reservation from before the state was lost gives back nothing. */
export function giveBack(account: Account, taken: Taken): Account {
  if (taken.takenMs < account.bornMs) return account;
  return {
    ...account,
    requests: { ...account.requests, level: account.requests.level + 1 },
    tokens: { ...account.tokens, level: account.tokens.level + taken.tokens },
  };
}

/** Makes use of an answer: `tokens` as the provider counted them, null when it did not say. */
export function settle(
  account: Account,
  taken: Taken,
  { tokens, limits }: { tokens: number | null; limits: ProviderLimits },
  rules: PacingRules,
): Account {
  const ours = taken.takenMs >= account.bornMs;
  const correction = tokens === null || !ours ? 0 : taken.tokens - tokens;
  const corrected = { ...account.tokens, level: account.tokens.level + correction };
  const heard = hear({ ...account, tokens: corrected }, taken, limits, rules);
  return {
    ...heard,
    bytesPerToken:
      tokens === null ? heard.bytesPerToken : nextRatio(heard.bytesPerToken, taken.bytes, tokens, rules),
    failures: 0,
    openings: 0,
    openUntilMs: 0,
  };
}

/** The learned ratio after one more answer. A token is at least one byte; 16 keeps one odd answer from spoiling it. */
export function nextRatio(ratio: number, bytes: number, tokens: number, rules: PacingRules): number {
  if (tokens <= 0 || bytes <= 0) return ratio;
  return ratio + rules.ratioWeight * (Math.min(16, Math.max(1, bytes / tokens)) - ratio);
}

/**
 * A 429: nobody goes for `retryAfterMs`, and the rate is cut.
 *
 * A refusal speaks about the rate that was in force when its request was let go. If the rate has been cut, or set by the
 * provider, since then or just before, the refusal is old news: sixteen refusals of one moment are one cut.
 */
export function refuse(
  account: Account,
  taken: Taken,
  { retryAfterMs, limits }: { retryAfterMs: number; limits: ProviderLimits },
  rules: PacingRules,
): Account {
  // Nothing was embedded, so no tokens were used; where a provider counts them all the same, its headers say so.
  const unused = taken.takenMs >= account.bornMs ? taken.tokens : 0;
  const tokens = { ...account.tokens, level: account.tokens.level + unused };
  const heard = hear({ ...account, tokens }, taken, limits, rules);
  const cut = taken.takenMs > heard.changedMs + rules.cutPauseMs;
  const slow = (meter: Meter, remaining: number | null): Meter => ({
    ...meter,
    level: remaining === null ? Math.min(meter.level, 0) : meter.level,
    perMinute: cut ? Math.max(1, meter.perMinute * rules.cutFactor) : meter.perMinute,
  });
  const untilMs = heard.atMs + Math.min(rules.cooldownMsMax, Math.max(0, retryAfterMs));
  return {
    ...heard,
    requests: slow(heard.requests, limits.requestsRemaining),
    tokens: slow(heard.tokens, limits.tokensRemaining),
    changedMs: cut ? heard.atMs : heard.changedMs,
    cooldownUntilMs: Math.max(heard.cooldownUntilMs, untilMs),
  };
}

/** Learns the limits from an answer's headers, and holds the buckets to what the provider says is left in its own. */
function hear(account: Account, taken: Taken, limits: ProviderLimits, rules: PacingRules): Account {
  const ours = taken.takenMs >= account.bornMs;
  const requestsThen = ours ? taken.requestsTaken : 0;
  const tokensThen = ours ? taken.tokensTaken : 0;
  // An answer that was long on its way says nothing that a younger one has not said better.
  const news = requestsThen > account.seen || account.seen === 0;

  const meter = (kind: Kind, limit: number | null, remaining: number | null, takenThen: number): Meter => {
    const learned = learn(account[kind], limit, news && remaining !== null, rules[kind], rules);
    return news ? holdTo(learned, remaining, takenThen, rules[kind]) : learned;
  };
  const requests = meter('requests', limits.requestsLimit, limits.requestsRemaining, requestsThen);
  const tokens = meter('tokens', limits.tokensLimit, limits.tokensRemaining, tokensThen);
  const changed = requests.limit !== account.requests.limit || tokens.limit !== account.tokens.limit;
  return {
    ...account,
    requests,
    tokens,
    heard: 1,
    seen: news ? requestsThen : account.seen,
    changedMs: changed ? account.atMs : account.changedMs,
  };
}

function learn(
  meter: Meter,
  limit: number | null,
  levelKnown: boolean,
  kind: MeterRules,
  rules: PacingRules,
): Meter {
  if (limit === null || limit <= 0 || limit === meter.limit) return meter;
  const perMinute = Math.min(limit * rules.rateOfLimit, Math.max(meter.perMinute, kind.rampFromPerMinute));
  const capacity = capacityOf({ ...meter, limit }, kind, rules);
  // Before the limit is known the level is a guess. It gives way to what the provider says is left, applied next.
  const level = meter.limit === 0 && levelKnown ? capacity : Math.min(meter.level, capacity);
  return { ...meter, limit, perMinute, level };
}

/** What was taken after `takenThen` may not have reached the provider when it counted. */
function holdTo(meter: Meter, remaining: number | null, takenThen: number, kind: MeterRules): Meter {
  if (remaining === null || meter.limit === 0) return meter;
  const left = remaining - (meter.taken - takenThen) - meter.limit * kind.cushionOfLimit;
  return { ...meter, level: Math.min(meter.level, Math.max(left, -meter.limit)) };
}

/**
 * A wait with chance added, so that those who were told the same do not come back together.
 *
 * `random` in [0, 1). Adds up to a tenth, at least 100 ms and at most 5 s: less than what costs a waiter its place.
 */
export function spreadMs(waitMs: number, random: number): number {
  return Math.floor(waitMs + random * Math.min(5_000, Math.max(100, waitMs / 10)));
}
