/**
 * The arithmetic of pacing: two leaky buckets an account, one of requests and one of tokens.
 *
 * Production runs it inside Redis, as `pacing/pace.lua`, so that all workers share one bucket and one clock. This is the
 * same in a language that can be tested; a test holds the two together, step by step. Times are milliseconds of that clock.
 */
import type { Account, Meter } from './account.ts';
import {
  NO_SEARCH,
  type Search,
  searchAnswered,
  searchedRate,
  searchRefused,
  UNBOUNDED,
} from './limit-search.ts';
import type { MeterRules, PacingRules } from './pacing-rules.ts';
import type { ProviderLimits } from './provider-limits.ts';

/** What a reservation took, and when: enough to settle it. */
export type Taken = {
  readonly takenMs: number;
  /** When its request may be sent: `takenMs`, and the wait for the place that was booked. */
  readonly sendMs: number;
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
    requests: refillMeter(account.requests, account.search, elapsedMs, rules.requests, rules),
    tokens: refillMeter(account.tokens, account.search, elapsedMs, rules.tokens, rules),
  };
}

function refillMeter(
  meter: Meter,
  search: Search,
  elapsedMs: number,
  kind: MeterRules,
  rules: PacingRules,
): Meter {
  const capacity = capacityOf(meter, kind, rules);
  const level = Math.min(capacity, meter.level + (meter.perMinute * elapsedMs) / MINUTE_MS);
  // A full bucket says that the rate is not what holds the work back: it would rise without ever being tried.
  const perMinute = level < capacity ? grown(meter, search, elapsedMs, kind, rules) : meter.perMinute;
  return { ...meter, level, perMinute };
}

function grown(
  meter: Meter,
  search: Search,
  elapsedMs: number,
  kind: MeterRules,
  rules: PacingRules,
): number {
  const minutes = Math.min(elapsedMs, rules.growthMsMax) / MINUTE_MS;
  if (isSearched(meter, search)) return searchedRate(meter, search, minutes, rules.search);
  const base = meter.limit > 0 ? meter.limit : Math.min(meter.perMinute, kind.startPerMinute);
  const recovered = meter.perMinute + base * rules.recoveryPerMinute * minutes;
  const ramped = Math.max(kind.rampFromPerMinute, meter.perMinute * (1 + rules.rampPerMinute * minutes));
  const ceiling = meter.limit > 0 ? meter.limit * rules.rateOfLimit : recovered;
  return Math.min(recovered, ramped, ceiling);
}

function isSearched(meter: Meter, search: Search): boolean {
  return meter.limit === 0 && search.concurrency > 0;
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
  const answer = {
    latencyMs: Math.max(1, heard.atMs - taken.sendMs),
    bytes: taken.bytes,
    tokens: tokens ?? taken.tokens,
  };
  return {
    ...heard,
    search: ours ? searchAnswered(heard.search, answer, heard.atMs, rules.search) : heard.search,
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
  const { search, rateOf, waitFactor } = searchRefused(
    heard.search,
    heard.requests.perMinute < UNBOUNDED,
    taken.takenMs,
    heard.atMs,
    rules.search,
  );
  const pauseMs = Math.min(rules.cooldownMsMax, Math.max(0, retryAfterMs * waitFactor));
  const untilMs = heard.atMs + pauseMs;
  const slow = (kind: Kind, remaining: number | null): Meter => {
    const meter = heard[kind];
    if (isSearched(meter, heard.search)) {
      const perMinute = rateOf?.(kind, meter.perMinute) ?? meter.perMinute;
      // Nothing gathers in the pause: those who wait for its end would all go at once.
      const level = Math.min(meter.level, -(perMinute * pauseMs) / MINUTE_MS);
      return { ...meter, perMinute, level: perMinute < UNBOUNDED ? level : meter.level };
    }
    return {
      ...meter,
      level: remaining === null ? Math.min(meter.level, 0) : meter.level,
      perMinute: cut ? Math.max(1, meter.perMinute * rules.cutFactor) : meter.perMinute,
    };
  };
  return {
    ...heard,
    search,
    requests: slow('requests', limits.requestsRemaining),
    tokens: slow('tokens', limits.tokensRemaining),
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
    // With both limits told there is nothing left to search for.
    search: requests.limit > 0 && tokens.limit > 0 ? NO_SEARCH : account.search,
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
  const begun = meter.perMinute < UNBOUNDED ? meter.perMinute : kind.startPerMinute;
  const perMinute = Math.min(limit * rules.rateOfLimit, Math.max(begun, kind.rampFromPerMinute));
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
