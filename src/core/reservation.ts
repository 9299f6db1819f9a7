/** Whether a request may go now, soon, or must come again: one decision over all buckets. Mirrored by `pacing/pace.lua`. */

import type { Account } from './account.ts';
import { passGate } from './breaker.ts';
import { drawFixed, type Fixed, fixedBucket } from './fixed-limits.ts';
import { flightWait } from './limit-search.ts';
import { type Bucket, capacityOf, estimateTokens, type Kind, type Taken, take, waitMsFor } from './pacing.ts';
import type { PacingRules } from './pacing-rules.ts';

export type WaitReason =
  | 'requests'
  | 'tokens'
  | 'in_flight'
  | 'cooldown'
  | 'breaker'
  | 'probe_in_flight'
  | 'probe';

/** Who comes before the caller. */
export type Ahead = {
  /** In the line of those that were told to come again. */
  readonly requests: number;
  readonly tokens: number;
  /** Requests on their way. */
  readonly inFlight: number;
};

/** Whether the operator has said how much of each may be used: then nothing is guessed before the provider has spoken. */
export type Stated = { readonly requests: boolean; readonly tokens: boolean };

export const NOTHING_STATED: Stated = { requests: false, tokens: false };

export type Answer =
  | { readonly go: true; readonly waitMs: number; readonly taken: Taken }
  | { readonly go: false; readonly waitMs: number; readonly because: WaitReason };

/**
 * Takes one request and its tokens from every bucket, or from none.
 *
 * All buckets must have been refilled to `nowMs`. A place that comes up within `bookMs` is taken now and used `waitMs`
 * later; who must wait longer is told to come again a little before its turn, so that being late costs nothing.
 */
export function reserve(
  account: Account,
  fixed: Fixed | null,
  size: { readonly inputs: number; readonly bytes: number },
  ahead: Ahead,
  nowMs: number,
  rules: PacingRules,
  stated: Stated = NOTHING_STATED,
): { account: Account; fixed: Fixed | null; answer: Answer } {
  const { gate, ...passed } = passGate(account, fixed, nowMs, rules);
  if (gate !== null) return { ...passed, answer: { go: false, ...gate } };

  const tokens = estimateTokens(size, account.bytesPerToken, rules);
  const cooldownMs = Math.max(0, account.cooldownUntilMs - nowMs);
  const waitOf = (kind: Kind, units: number, behind: number) =>
    waitOfMs(kind, account, fixed, units, behind, { rules, stated });
  const flightOf = (behind: number) =>
    isOverruled('requests', account, stated)
      ? { waitMs: 0, mayBook: true }
      : flightWait(account.search, ahead.inFlight, behind, rules.search);

  const requestsMs = waitOf('requests', 1, ahead.requests);
  const ratesMs = Math.max(cooldownMs, requestsMs, waitOf('tokens', tokens, ahead.tokens));
  const flight = flightOf(ahead.requests);
  const waitMs = Math.max(ratesMs, flight.waitMs);
  const roundFull = flight.waitMs > ratesMs ? 1 : account.search.roundFull;
  const seen = { ...account, search: { ...account.search, roundFull } };

  if (!flight.mayBook && waitMs <= rules.bookMs) {
    const { comeMsMin, unheardComeMs } = rules.search;
    const latestMs = account.heard === 0 ? unheardComeMs : rules.bookMs;
    const comeMs = Math.min(latestMs, Math.max(comeMsMin, waitMs));
    return { account: seen, fixed, answer: { go: false, waitMs: comeMs, because: 'in_flight' } };
  }
  if (waitMs > rules.bookMs) {
    const because = reasonOf(waitMs, { cooldownMs, requestsMs, flightMs: flight.waitMs });
    // Nobody can go before a cooldown ends; any other wait may turn out shorter.
    const told = because === 'cooldown' ? waitMs : comeBackMs(waitMs, rules);
    // Until the provider has been heard its limits are a guess, and its first answer may end the wait.
    const comeMs = account.heard === 0 ? Math.min(told, rules.bookMs) : told;
    return { account: seen, fixed, answer: { go: false, waitMs: comeMs, because } };
  }

  const ownMs = Math.max(
    cooldownMs,
    waitOf('requests', 1, 0),
    waitOf('tokens', tokens, 0),
    flightOf(0).waitMs,
  );
  const after = take(seen, tokens);
  const taken: Taken = {
    takenMs: nowMs,
    sendMs: nowMs + ownMs,
    bytes: size.bytes,
    tokens,
    requestsTaken: after.requests.taken,
    tokensTaken: after.tokens.taken,
  };
  const fixedAfter = fixed && { ...fixed, levels: drawFixed(fixed.levels, 1, tokens) };
  return { account: after, fixed: fixedAfter, answer: { go: true, waitMs: ownMs, taken } };
}

/** The longest of the waits, by name. */
function reasonOf(
  waitMs: number,
  { cooldownMs, requestsMs, flightMs }: { cooldownMs: number; requestsMs: number; flightMs: number },
): WaitReason {
  if (waitMs === cooldownMs) return 'cooldown';
  if (waitMs === requestsMs) return 'requests';
  return waitMs === flightMs ? 'in_flight' : 'tokens';
}

/** Whether the operator's word stands in for a guess of ours. What the provider says, or refuses, counts whoever else speaks. */
function isOverruled(kind: Kind, account: Account, stated: Stated): boolean {
  return stated[kind] && account[kind].limit === 0 && account.changedMs === 0;
}

/** A little before its turn. At least half of `bookMs`, since shorter waits are booked. */
function comeBackMs(waitMs: number, { bookMs, comeBackAfter }: PacingRules): number {
  return Math.floor(Math.min(waitMs - bookMs / 2, Math.max(bookMs, waitMs * comeBackAfter)));
}

function waitOfMs(
  kind: Kind,
  account: Account,
  fixed: Fixed | null,
  units: number,
  ahead: number,
  { rules, stated }: { rules: PacingRules; stated: Stated },
): number {
  const meter = account[kind];
  const shared: Bucket = { ...meter, capacity: capacityOf(meter, rules[kind], rules) };
  const sharedMs = isOverruled(kind, account, stated) ? 0 : waitMsFor(shared, units, ahead);
  const own = fixed && fixedBucket(kind, fixed.levels, fixed.rates);
  return Math.max(sharedMs, own ? waitMsFor(own, units, ahead) : 0);
}
