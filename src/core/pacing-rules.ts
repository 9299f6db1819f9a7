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

/** The numbers that pacing goes by. `pacing/pace.lua` gets them as an argument, so that each is written once. */
export type PacingRules = {
  readonly requests: MeterRules;
  readonly tokens: MeterRules;
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
