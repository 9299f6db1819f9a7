/** Whether a request may go now, soon, or must come again: one decision over all buckets. Mirrored by `pacing/pace.lua`. */
import { passGate } from './breaker.ts';
import { drawFixed, type Fixed, fixedBucket } from './fixed-limits.ts';
import {
  type Account,
  type Bucket,
  capacityOf,
  estimateTokens,
  type Taken,
  take,
  waitMsFor,
} from './pacing.ts';
import type { PacingRules } from './pacing-rules.ts';

export type WaitReason = 'requests' | 'tokens' | 'cooldown' | 'breaker' | 'probe_in_flight' | 'probe';

/** Who stands before the caller in the line of those that were told to come again. */
export type Ahead = { readonly requests: number; readonly tokens: number };

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
): { account: Account; fixed: Fixed | null; answer: Answer } {
  const { gate, ...passed } = passGate(account, fixed, nowMs, rules);
  if (gate !== null) return { ...passed, answer: { go: false, ...gate } };

  const tokens = estimateTokens(size, account.bytesPerToken, rules);
  const cooldownMs = Math.max(0, account.cooldownUntilMs - nowMs);
  const requestsMs = waitOfMs('requests', account, fixed, 1, ahead.requests, rules);
  const tokensMs = waitOfMs('tokens', account, fixed, tokens, ahead.tokens, rules);
  const waitMs = Math.max(cooldownMs, requestsMs, tokensMs);

  if (waitMs > rules.bookMs) {
    const because = waitMs === cooldownMs ? 'cooldown' : waitMs === requestsMs ? 'requests' : 'tokens';
    // Nobody can go before a cooldown ends; any other wait may turn out shorter.
    const told = because === 'cooldown' ? waitMs : comeBackMs(waitMs, rules);
    // Until the provider has been heard its limits are a guess, and its first answer may end the wait.
    const comeMs = account.heard === 0 ? Math.min(told, rules.bookMs) : told;
    return { account, fixed, answer: { go: false, waitMs: comeMs, because } };
  }

  const ownMs = Math.max(
    cooldownMs,
    waitOfMs('requests', account, fixed, 1, 0, rules),
    waitOfMs('tokens', account, fixed, tokens, 0, rules),
  );
  const after = take(account, tokens);
  const taken: Taken = {
    takenMs: nowMs,
    bytes: size.bytes,
    tokens,
    requestsTaken: after.requests.taken,
    tokensTaken: after.tokens.taken,
  };
  const fixedAfter = fixed && { ...fixed, levels: drawFixed(fixed.levels, 1, tokens) };
  return { account: after, fixed: fixedAfter, answer: { go: true, waitMs: ownMs, taken } };
}

/** A little before its turn. At least half of `bookMs`, since shorter waits are booked. */
function comeBackMs(waitMs: number, { bookMs, comeBackAfter }: PacingRules): number {
  return Math.floor(Math.min(waitMs - bookMs / 2, Math.max(bookMs, waitMs * comeBackAfter)));
}

function waitOfMs(
  kind: 'requests' | 'tokens',
  account: Account,
  fixed: Fixed | null,
  units: number,
  ahead: number,
  rules: PacingRules,
): number {
  const meter = account[kind];
  const shared: Bucket = { ...meter, capacity: capacityOf(meter, rules[kind], rules) };
  const own = fixed && fixedBucket(kind, fixed.levels, fixed.rates);
  return Math.max(waitMsFor(shared, units, ahead), own ? waitMsFor(own, units, ahead) : 0);
}
