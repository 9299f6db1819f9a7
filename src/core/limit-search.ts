/**
 * The search for limits that a provider does not tell, as on a network path of unknown capacity. Mirrored by `pacing/pace.lua`.
 *
 * Two things are looked for. How many requests at once help: their number doubles each round, until a round took longer and
 * brought no more. And what rate is let through: there is none until the first refusal; from then on it is what was accepted
 * up to a refusal, a little less, and creeping up again.
 */
import type { Meter } from './account.ts';
import type { PacingRules, SearchRules } from './pacing-rules.ts';

export type Search = {
  /** Requests that may be on their way at once; 0 when nothing is searched for. */
  readonly concurrency: number;
  /** Of late, in the mean; 0 while no answer has come. */
  readonly latencyMs: number;
  /** A round is about as many answers as there are requests at once. */
  readonly roundMs: number;
  readonly roundAnswers: number;
  readonly roundBytes: number;
  readonly roundLatencyMs: number;
  /** 1 if more would have gone out in this round, had they been let. */
  readonly roundFull: number;
  /** Bytes a millisecond, and the mean latency, of the round before the number was doubled; 0 when there is none. */
  readonly priorRate: number;
  readonly priorLatencyMs: number;
  /** The number is not raised before this, and was halved last at `halvedMs`. */
  readonly holdUntilMs: number;
  readonly halvedMs: number;
  /** What was accepted since `windowMs`, and in the window before it, which began at `beforeMs`. */
  readonly windowMs: number;
  readonly requests: number;
  readonly tokens: number;
  readonly beforeMs: number;
  readonly beforeRequests: number;
  readonly beforeTokens: number;
  /** When a refusal last changed the rate; 0 before the first. */
  readonly cutMs: number;
  /** How often the rate was measured, as what was accepted between two refusals; 0 while it is a guess. Counts to `measuredMax`. */
  readonly measured: number;
  /** Refusals with no answer in between. */
  readonly strikes: number;
};

/** A rate that bounds nothing. Finite, since JSON has no infinity. */
export const UNBOUNDED = 1e15;

const MINUTE_MS = 60_000;
const NOTHING_COUNTED = { requests: 0, tokens: 0, beforeRequests: 0, beforeTokens: 0 };
const NEW_ROUND = { roundAnswers: 0, roundBytes: 0, roundLatencyMs: 0, roundFull: 0 };
const NO_PRIOR = { priorRate: 0, priorLatencyMs: 0 };

/** Limits are told, or there is a rate to begin with that is known to be safe. */
export const NO_SEARCH: Search = {
  concurrency: 0,
  latencyMs: 0,
  roundMs: 0,
  ...NEW_ROUND,
  ...NO_PRIOR,
  holdUntilMs: 0,
  halvedMs: 0,
  windowMs: 0,
  beforeMs: 0,
  ...NOTHING_COUNTED,
  cutMs: 0,
  measured: 0,
  strikes: 0,
};

export function openSearch(nowMs: number, { search }: PacingRules): Search {
  const began = { roundMs: nowMs, windowMs: nowMs, beforeMs: nowMs };
  return { ...NO_SEARCH, ...began, concurrency: search.concurrencyStart };
}

/** Makes use of an answer that came `latencyMs` after its request was let go. */
export function searchAnswered(
  search: Search,
  { latencyMs, bytes, tokens }: { latencyMs: number; bytes: number; tokens: number },
  nowMs: number,
  rules: SearchRules,
): Search {
  if (search.concurrency === 0) return search;
  const isOver = nowMs - search.windowMs >= rules.windowMs && search.requests >= rules.windowAnswers;
  const { windowMs: beforeMs, requests: beforeRequests, tokens: beforeTokens } = search;
  const before = { beforeMs, beforeRequests, beforeTokens, windowMs: nowMs, requests: 0, tokens: 0 };
  const counted = isOver ? { ...search, ...before } : search;
  const next = {
    ...counted,
    requests: counted.requests + 1,
    tokens: counted.tokens + tokens,
    latencyMs:
      search.latencyMs === 0
        ? latencyMs
        : search.latencyMs + rules.latencyWeight * (latencyMs - search.latencyMs),
    roundAnswers: search.roundAnswers + 1,
    roundBytes: search.roundBytes + bytes,
    roundLatencyMs: search.roundLatencyMs + latencyMs,
    strikes: 0,
  };
  return next.roundAnswers < Math.max(rules.roundAnswersMin, next.concurrency)
    ? next
    : roundEnded(next, nowMs, rules);
}

function roundEnded(search: Search, nowMs: number, rules: SearchRules): Search {
  const next = { ...search, ...NEW_ROUND, roundMs: nowMs };
  // Nobody was held up: that says nothing of what the provider can do.
  if (search.roundFull === 0) return { ...next, ...NO_PRIOR };

  const rate = search.roundBytes / Math.max(1, nowMs - search.roundMs);
  const latencyMs = search.roundLatencyMs / search.roundAnswers;
  const isSlower = latencyMs > search.priorLatencyMs * rules.slowerFactor;
  if (search.priorRate > 0 && isSlower && rate < search.priorRate * rules.moreFactor) {
    return halved(next, nowMs, rules);
  }
  if (nowMs < search.holdUntilMs) return next;
  const concurrency = Math.min(rules.concurrencyMax, search.concurrency * 2);
  return { ...next, concurrency, priorRate: rate, priorLatencyMs: latencyMs };
}

/** Half as many requests at once, for a while. */
function halved(search: Search, nowMs: number, rules: SearchRules): Search {
  const concurrency = Math.max(1, Math.floor(search.concurrency / 2));
  return { ...search, ...NO_PRIOR, concurrency, halvedMs: nowMs, holdUntilMs: nowMs + rules.holdMs };
}

/** A provider that fails may have too much to do. Requests that were let go before the last halving say nothing new. */
export function searchFailed(search: Search, takenMs: number, nowMs: number, rules: SearchRules): Search {
  return search.concurrency === 0 || takenMs <= search.halvedMs ? search : halved(search, nowMs, rules);
}

export type Cut = {
  readonly search: Search;
  /** What the rates become; null when this refusal says nothing new, or nothing that a rate could be taken from. */
  readonly rateOf: ((kind: 'requests' | 'tokens', perMinute: number) => number) | null;
  /** The wait that was asked for is this many times longer. */
  readonly waitFactor: number;
};

/**
 * A refusal that names no limit.
 *
 * Between two refusals a provider accepts just what its limit lets through, and that is what the rate becomes. The first
 * refusal may come at the end of a burst, so half of what was accepted until then. Refusals with no answer in between leave
 * the rate as it is and double the wait: nothing is learned from knocking at a closed door.
 *
 * @param isRated whether there is a rate already.
 */
export function searchRefused(
  search: Search,
  isRated: boolean,
  takenMs: number,
  nowMs: number,
  rules: SearchRules,
): Cut {
  if (search.concurrency === 0 || takenMs <= search.cutMs) return { search, rateOf: null, waitFactor: 1 };
  const requests = search.requests + search.beforeRequests;
  if (requests === 0) {
    const struck = { ...search, cutMs: nowMs, strikes: search.strikes + 1 };
    return { search: struck, rateOf: null, waitFactor: 2 ** Math.min(rules.strikesMax, search.strikes) };
  }
  const elapsedMs = nowMs - search.beforeMs;
  const accepted = { requests, tokens: search.tokens + search.beforeTokens };
  const seenOf = (kind: 'requests' | 'tokens') =>
    (accepted[kind] / Math.max(elapsedMs, rules.measureMs)) * MINUTE_MS;
  const counters = { ...NOTHING_COUNTED, windowMs: nowMs, beforeMs: nowMs };
  const begun = { ...search, ...counters, cutMs: nowMs, strikes: 0 };
  if (!isRated) {
    return { search: begun, rateOf: (kind) => Math.max(1, seenOf(kind) * rules.cutFactor), waitFactor: 1 };
  }
  if (elapsedMs < rules.measureMs || requests < rules.measureAnswers) {
    // Too soon to tell: what is counted goes on. What was measured once is not doubted for that.
    const factor = search.measured > 0 ? rules.soonFactor : rules.cutFactor;
    const rateOf = (_kind: string, perMinute: number) => Math.max(1, perMinute * factor);
    return { search: { ...search, cutMs: nowMs, strikes: 0 }, rateOf, waitFactor: 1 };
  }
  // A guess doubles so quickly that few answers came at the rate it has by now: their mean is too low.
  const hasLeapt = search.measured === 0 && elapsedMs >= rules.leapMs;
  const floor = hasLeapt ? rules.guessFloor : rules.cutFactor;
  const rateOf = (kind: 'requests' | 'tokens', perMinute: number) =>
    Math.max(1, Math.min(perMinute, Math.max(seenOf(kind) * rules.keepFactor, perMinute * floor)));
  const measured = Math.min(rules.measuredMax, search.measured + 1);
  return { search: { ...begun, measured }, rateOf, waitFactor: 1 };
}

/**
 * The rate after `minutes` without a refusal: doubles in 5 s while it is a guess, and creeps once it was measured. The more
 * often it was measured, the slower: each refusal that the creeping runs into costs as many calls as are on their way.
 */
export function searchedRate(
  { perMinute }: Meter,
  search: Search,
  minutes: number,
  rules: SearchRules,
): number {
  if (perMinute >= UNBOUNDED) return perMinute;
  const creep = rules.creepPerMinute * Math.min(1, perMinute / rules.creepFullAt);
  return perMinute * (1 + minutes * (search.measured > 0 ? creep / search.measured : rules.leapPerMinute));
}

/** How long until a further request may be on its way. `mayBook` is false when too many have booked a place already. */
export function flightWait(
  search: Search,
  inFlight: number,
  ahead: number,
  rules: SearchRules,
): { waitMs: number; mayBook: boolean } {
  if (search.concurrency === 0) return { waitMs: 0, mayBook: true };
  const missing = inFlight + ahead + 1 - search.concurrency;
  const eachMs = (search.latencyMs === 0 ? rules.latencyStartMs : search.latencyMs) / search.concurrency;
  return { waitMs: Math.max(0, Math.ceil(missing * eachMs)), mayBook: missing <= search.concurrency };
}
