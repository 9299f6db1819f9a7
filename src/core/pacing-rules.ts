import { strict as assert } from 'node:assert';

/** What differs between the bucket of requests and the bucket of tokens. */
export type MeterRules = {
  /** Units a minute to begin with, while the provider has not said what it allows. */
  readonly startPerMinute: number;
  /** Share of a known limit that is never touched: it takes in the errors of our estimates. */
  readonly cushionOfLimit: number;
  /** Above this many units a minute the rate rises by at most `rampPerMinute`. */
  readonly rampFromPerMinute: number;
};

/** The numbers of the search for limits that nobody told: see `limit-search.ts`. */
export type SearchRules = {
  readonly concurrencyStart: number;
  readonly concurrencyMax: number;
  /** Latency that is taken for granted before the first answer. */
  readonly latencyStartMs: number;
  readonly latencyWeight: number;
  readonly roundAnswersMin: number;
  /** A round is slower if its latency is this many times that of the one before, and brings more if its rate is. */
  readonly slowerFactor: number;
  readonly moreFactor: number;
  /** How long the number of requests at once stays after it was halved. */
  readonly holdMs: number;
  /** What was accepted is counted in windows of at least this time and this many answers. */
  readonly windowMs: number;
  readonly windowAnswers: number;
  /** What fewer answers, or less time, between two refusals say is not taken for the limit. */
  readonly measureMs: number;
  readonly measureAnswers: number;
  /** What a refusal leaves of a guess, and of what was measured. */
  readonly cutFactor: number;
  readonly keepFactor: number;
  /** What is left of a measured rate that is refused again before there is anything to measure. */
  readonly soonFactor: number;
  /** A guess that has grown for `leapMs` and is measured for the first time keeps at least this much. */
  readonly guessFloor: number;
  readonly leapMs: number;
  /** What is added to a rate in a minute: to a guess, and to one that was measured, from `creepFullAt` units a minute on. */
  readonly leapPerMinute: number;
  readonly creepPerMinute: number;
  readonly creepFullAt: number;
  /** The creeping slows down with each measure, up to so many times. */
  readonly measuredMax: number;
  readonly strikesMax: number;
  /** Soonest and, before the first answer, latest that a waiter comes back for a place among the requests at once. */
  readonly comeMsMin: number;
  readonly unheardComeMs: number;
  /** A request that nobody has reported after this long is taken to be lost. */
  readonly flightMsMax: number;
};

/** The numbers that pacing goes by. `pacing/pace.lua` gets them as an argument, so that each is written once. */
export type PacingRules = {
  readonly requests: MeterRules;
  readonly tokens: MeterRules;
  readonly search: SearchRules;
  /** While the limit is a guess, no more than what flows in this time may go at once. */
  readonly guessBurstMs: number;
  readonly rateOfLimit: number;
  /** A refusal leaves this much of the rate. */
  readonly cutFactor: number;
  /** A rate that was set or cut is not cut again for this long: what was on its way still speaks about the old one. */
  readonly cutPauseMs: number;
  /** A rate wins back this share of the limit a minute; while that is a guess, of the rate it has, or began with if less. */
  readonly recoveryPerMinute: number;
  readonly rampPerMinute: number;
  /** Idle time beyond this does not raise a rate. */
  readonly growthMsMax: number;
  readonly bytesPerTokenStart: number;
  /** Weight of the newest answer in the learned ratio of bytes to tokens. */
  readonly ratioWeight: number;
  /** Estimates are multiplied by this: what was too much is given back when the answer comes. */
  readonly estimateMargin: number;
  /** A place that comes up within this time is booked; who must wait longer is told to ask again. */
  readonly bookMs: number;
  /** Who must wait longer is told to come after this share of the time: the rate may have risen, others may have left. */
  readonly comeBackAfter: number;
  readonly cooldownMsMax: number;
  /** A waiter that is this late has lost its place in the line. */
  readonly lineGraceMs: number;
  /** What Redis knows of an account is forgotten after this long without a call. */
  readonly idleMs: number;
  readonly failuresToOpen: number;
  readonly openMs: number;
  readonly openMsMax: number;
  /** A probe that has not been reported after this long is given to another caller. */
  readonly probeMs: number;
  /** How long a caller waits while somebody else finds out whether the provider is well. */
  readonly retryMs: number;
};

/** Tier 1 of OpenAI's embedding models, as third parties list it. */
export const TIER_1 = { requestsPerMinute: 3_000, tokensPerMinute: 1_000_000 } as const;

/** A rate without a ramp. Finite, since JSON has no infinity. */
const NEVER = 1e15;

/** OpenAI answers `slow_down` to traffic that rises by more than half in 15 minutes. (1 + ln 1.5 / n)^n < 1.5 for every n. */
const RAMP_PER_MINUTE = Math.log(1.5) / 15;

const SEARCH_RULES: SearchRules = {
  concurrencyStart: 4,
  concurrencyMax: 1_024,
  latencyStartMs: 250,
  latencyWeight: 0.2,
  roundAnswersMin: 4,
  slowerFactor: 1.4,
  moreFactor: 1.2,
  holdMs: 30_000,
  windowMs: 2_000,
  windowAnswers: 10,
  measureMs: 1_000,
  measureAnswers: 5,
  cutFactor: 0.5,
  keepFactor: 0.95,
  soonFactor: 0.9,
  guessFloor: 0.8,
  leapMs: 3_000,
  // Doubles in 5 seconds.
  leapPerMinute: 12 * Math.LN2,
  creepPerMinute: 0.45,
  creepFullAt: 450,
  measuredMax: 4,
  strikesMax: 6,
  comeMsMin: 20,
  unheardComeMs: 200,
  // Longer than the embedder's deadline.
  flightMsMax: 90_000,
};

/**
 * The rules to begin with.
 *
 * `startFraction` is the share of tier 1 that an account may use before its provider has said what it allows.
 */
export function pacingRules(startFraction = 0.5): PacingRules {
  assert(startFraction > 0, `startFraction must be above 0, got ${startFraction}`);
  return {
    requests: {
      startPerMinute: TIER_1.requestsPerMinute * startFraction,
      cushionOfLimit: 0.02,
      rampFromPerMinute: NEVER,
    },
    tokens: {
      startPerMinute: TIER_1.tokensPerMinute * startFraction,
      // Requests are counted exactly, tokens are estimated: hence the larger cushion.
      cushionOfLimit: 0.03,
      rampFromPerMinute: 1_000_000,
    },
    search: SEARCH_RULES,
    guessBurstMs: 3_000,
    rateOfLimit: 0.98,
    cutFactor: 0.7,
    cutPauseMs: 2_000,
    recoveryPerMinute: 0.6,
    rampPerMinute: RAMP_PER_MINUTE,
    growthMsMax: 60_000,
    // Between English (4.4) and JSON (1.9): the first answers correct it.
    bytesPerTokenStart: 3,
    ratioWeight: 0.2,
    estimateMargin: 1.1,
    bookMs: 1_000,
    comeBackAfter: 0.8,
    cooldownMsMax: 3_600_000,
    lineGraceMs: 10_000,
    idleMs: 86_400_000,
    failuresToOpen: 5,
    openMs: 30_000,
    openMsMax: 300_000,
    probeMs: 90_000,
    retryMs: 2_000,
  };
}
