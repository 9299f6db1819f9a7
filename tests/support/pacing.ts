import { type Account, openAccount } from '../../src/core/account.ts';
import type { Credential } from '../../src/core/credential.ts';
import { settle, type Taken } from '../../src/core/pacing.ts';
import { pacingRules } from '../../src/core/pacing-rules.ts';
import type { ProviderLimits } from '../../src/core/provider-limits.ts';

export const MODEL = 'text-embedding-3-small';
/** The Redis key that holds the time of a test. */
export const CLOCK = 'test:clock';
export const MINUTE_MS = 60_000;
export const START_MS = 1_700_000_000_000;

export const rules = pacingRules();

/** An answer without any `x-ratelimit` header. */
export const NO_LIMITS: ProviderLimits = {
  requestsLimit: null,
  requestsRemaining: null,
  requestsResetMs: null,
  tokensLimit: null,
  tokensRemaining: null,
  tokensResetMs: null,
};

export function credentialOf(fingerprint: string, changes: Partial<Credential> = {}): Credential {
  return {
    apiKey: `sk-secret-${fingerprint}`,
    baseUrl: 'https://api.openai.com/v1',
    organization: null,
    fingerprint,
    owner: 'tenant',
    requestsPerMinute: null,
    tokensPerMinute: null,
    weight: 1,
    ...changes,
  };
}

/** An account whose provider has said what it allows, with full buckets there. */
export function accountOf(
  requestsLimit: number,
  tokensLimit: number,
  changes: Partial<Account> = {},
): Account {
  const limits = {
    ...NO_LIMITS,
    requestsLimit,
    requestsRemaining: requestsLimit,
    tokensLimit,
    tokensRemaining: tokensLimit,
  };
  const taken = { takenMs: 0, sendMs: 0, bytes: 0, tokens: 0, requestsTaken: 0, tokensTaken: 0 };
  return { ...settle(openAccount(0, rules, 'tier'), taken, { tokens: null, limits }, rules), ...changes };
}

export function takenAt(takenMs: number, account: Account, tokens = 100): Taken {
  return {
    takenMs,
    sendMs: takenMs,
    bytes: tokens * 3,
    tokens,
    requestsTaken: account.requests.taken,
    tokensTaken: account.tokens.taken,
  };
}

/** Buckets in use: what stands full does not learn to flow faster. */
export function drained(account: Account): Account {
  return {
    ...account,
    requests: { ...account.requests, level: -1e9 },
    tokens: { ...account.tokens, level: -1e9 },
  };
}

/** Numbers in [0, 1), the same for the same seed on every machine (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
