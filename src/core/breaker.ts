/** The breaker of an account: stops asking a provider that is down, and finds out when it is back. Mirrored by `pacing/pace.lua`. */

import type { Account } from './account.ts';
import { drawFixed, type Fixed, fixedBucket } from './fixed-limits.ts';
import { searchFailed } from './limit-search.ts';
import { type Taken, take, waitMsFor } from './pacing.ts';
import type { PacingRules } from './pacing-rules.ts';

/** Null lets the caller pass. `probe` makes the caller the one who tries, after `waitMs`, with one word and not with a batch. */
export type Gate = {
  readonly because: 'breaker' | 'probe_in_flight' | 'probe';
  readonly waitMs: number;
} | null;

/** Asks the breaker. Of all who ask when its time is up, one is told to probe. */
export function passGate(
  account: Account,
  fixed: Fixed | null,
  nowMs: number,
  rules: PacingRules,
): { account: Account; fixed: Fixed | null; gate: Gate } {
  if (account.openUntilMs === 0) return { account, fixed, gate: null };
  if (nowMs < account.openUntilMs) {
    return { account, fixed, gate: { because: 'breaker', waitMs: account.openUntilMs - nowMs } };
  }
  if (nowMs < account.probeUntilMs) {
    return { account, fixed, gate: { because: 'probe_in_flight', waitMs: rules.retryMs } };
  }
  const { waitMs, ...granted } = grantProbe(account, fixed, nowMs, rules);
  return { ...granted, gate: { because: 'probe', waitMs } };
}

/**
 * Takes the request and the token of a probe, and says how much later it may be sent.
 *
 * It waits for nobody who stands in the line, and not for the provider's limits, which have a cushion. But what the operator
 * allows is never exceeded: with a fixed limit of requests it is sent when that has room for it, at most a minute later.
 */
function grantProbe(
  account: Account,
  fixed: Fixed | null,
  nowMs: number,
  rules: PacingRules,
): { account: Account; fixed: Fixed | null; waitMs: number } {
  const bucket = fixed && fixedBucket('requests', fixed.levels, fixed.rates);
  const waitMs = bucket === null ? 0 : waitMsFor(bucket, 1, 0);
  return {
    account: { ...take(account, 1), probeUntilMs: nowMs + waitMs + rules.probeMs },
    fixed: fixed && { ...fixed, levels: drawFixed(fixed.levels, 1, 1) },
    waitMs,
  };
}

/**
 * Counts a provider failure, and opens the breaker when there were too many in a row.
 *
 * Failures that come in while it is open (of requests that were on their way) change nothing: the provider is
 * known to be down.
 */
export function fail(
  account: Account,
  fixed: Fixed | null,
  taken: Pick<Taken, 'takenMs'>,
  nowMs: number,
  rules: PacingRules,
): { account: Account; fixed: Fixed | null; next: 'probe' | 'wait'; waitMs: number } {
  if (account.openUntilMs > 0) {
    return { account, fixed, next: 'wait', waitMs: Math.max(account.openUntilMs - nowMs, rules.retryMs) };
  }
  const search = searchFailed(account.search, taken.takenMs, nowMs, rules.search);
  const failed = { ...account, search, failures: account.failures + 1 };
  if (failed.failures >= rules.failuresToOpen) {
    const open = reopen(failed, nowMs, rules);
    return { account: open, fixed, next: 'wait', waitMs: open.openUntilMs - nowMs };
  }
  if (nowMs < account.probeUntilMs) return { account: failed, fixed, next: 'wait', waitMs: rules.retryMs };
  return { ...grantProbe(failed, fixed, nowMs, rules), next: 'probe' };
}

/**
 * Takes the result of a probe. A good one closes the breaker, a bad one counts as a failure and keeps it open for longer.
 *
 * A bad one that began before the breaker opened does not make it longer: it is part of what opened it.
 */
export function probed(
  account: Account,
  ok: boolean,
  nowMs: number,
  rules: PacingRules,
): { account: Account; waitMs: number } {
  const done = { ...account, probeUntilMs: 0 };
  if (ok) return { account: { ...done, failures: 0, openings: 0, openUntilMs: 0 }, waitMs: 0 };

  if (nowMs < done.openUntilMs) return { account: done, waitMs: done.openUntilMs - nowMs };
  const failed = { ...done, failures: done.failures + 1 };
  const shut = failed.openUntilMs > 0 || failed.failures >= rules.failuresToOpen;
  if (!shut) return { account: failed, waitMs: rules.retryMs };
  const open = reopen(failed, nowMs, rules);
  return { account: open, waitMs: open.openUntilMs - nowMs };
}

function reopen(account: Account, nowMs: number, rules: PacingRules): Account {
  // Doubling stops long before the exponent could overflow.
  const openMs = Math.min(rules.openMsMax, rules.openMs * 2 ** Math.min(account.openings, 30));
  return { ...account, openings: account.openings + 1, openUntilMs: nowMs + openMs, probeUntilMs: 0 };
}
