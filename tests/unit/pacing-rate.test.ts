import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { openAccount } from '../../src/core/account.ts';
import { capacityOf, refill, refuse, settle, take } from '../../src/core/pacing.ts';
import { reserve } from '../../src/core/reservation.ts';
import { accountOf, drained, MINUTE_MS, NO_LIMITS, rules, takenAt } from '../support/pacing.ts';

const NOBODY = { requests: 0, tokens: 0, inFlight: 0 };
const limit = fc.integer({ min: 1, max: 10_000_000 });

describe('limits', () => {
  test('a bucket never holds more than its capacity, and time never takes from it', () => {
    const levels = fc.double({ min: -1e6, max: 1e6, noNaN: true });
    fc.assert(
      fc.property(limit, levels, fc.integer({ min: 0, max: 1e7 }), (tokensLimit, level, elapsedMs) => {
        const base = accountOf(3_000, tokensLimit);
        const capacity = capacityOf(base.tokens, rules.tokens, rules);
        const account = { ...base, tokens: { ...base.tokens, level: Math.min(level, capacity) } };
        const later = refill(account, elapsedMs, rules).tokens.level;
        expect(later).toBeLessThanOrEqual(capacity);
        expect(later).toBeGreaterThanOrEqual(account.tokens.level);
      }),
    );
  });

  test('the rate stays below the limit that the provider tells', () => {
    fc.assert(
      fc.property(limit, limit, fc.array(fc.integer({ min: 0, max: 100_000 })), (before, after, elapsed) => {
        let account = accountOf(before, before);
        const limits = { ...NO_LIMITS, requestsLimit: after, tokensLimit: after };
        account = settle(account, takenAt(0, account), { tokens: null, limits }, rules);
        for (const elapsedMs of elapsed) account = refill(drained(account), account.atMs + elapsedMs, rules);
        expect(account.requests.perMinute).toBeLessThanOrEqual(after * 0.98);
        expect(account.tokens.perMinute).toBeLessThanOrEqual(after * 0.98);
      }),
    );
  });

  test('what was taken after the answer began is subtracted from what the provider says is left', () => {
    const first = take(accountOf(60, 60_000), 1_000);
    const taken = takenAt(0, first, 1_000);
    const second = take(first, 2_000);
    const limits = { ...NO_LIMITS, requestsRemaining: 20, tokensRemaining: 9_000 };

    const settled = settle(second, taken, { tokens: 1_000, limits }, rules);

    expect(settled.requests.level).toBeCloseTo(20 - 1 - 60 * 0.02);
    expect(settled.tokens.level).toBeCloseTo(9_000 - 2_000 - 60_000 * 0.03);
  });

  test('an answer that was overtaken by a younger one does not lower the buckets', () => {
    const first = take(accountOf(60, 60_000), 100);
    const old = takenAt(0, first);
    const second = take(first, 100);
    const heard = settle(second, takenAt(0, second), { tokens: 100, limits: NO_LIMITS }, rules);

    const limits = { ...NO_LIMITS, requestsRemaining: 0, tokensRemaining: 0 };
    const settled = settle(heard, old, { tokens: 100, limits }, rules);

    expect(settled.requests.level).toBe(heard.requests.level);
  });

  test('above a million tokens a minute the rate rises by at most half in 15 minutes', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 60_000 }), { minLength: 15, maxLength: 300 }),
        (elapsed) => {
          let account = accountOf(10_000, 10_000_000);
          const rates = [{ atMs: 0, perMinute: account.tokens.perMinute }];
          for (const elapsedMs of elapsed) {
            account = refill(drained(account), account.atMs + elapsedMs, rules);
            rates.push({ atMs: account.atMs, perMinute: account.tokens.perMinute });
          }
          for (const then of rates) {
            const later = rates.findLast(({ atMs }) => atMs <= then.atMs + 15 * MINUTE_MS);
            expect(later?.perMinute).toBeLessThanOrEqual(then.perMinute * 1.5);
          }
        },
      ),
      { numRuns: 30 },
    );
  });

  test('a provider that tells no limits is asked for more as long as it refuses nothing', () => {
    let account = openAccount(0, rules, 'tier');
    for (let minute = 1; minute <= 3; minute++) account = refill(drained(account), minute * MINUTE_MS, rules);

    expect(account.requests.perMinute).toBeCloseTo(1_500 * (1 + 3 * 0.6));
  });
});

describe('a refusal', () => {
  const refusal = { retryAfterMs: 2_000, limits: NO_LIMITS };

  test('cuts the rate to 0.7 of it and lets nobody through until its time is over', () => {
    const account = refill(drained(accountOf(60, 60_000)), MINUTE_MS, rules);
    const refused = refuse(account, takenAt(MINUTE_MS, account), refusal, rules);
    const { answer } = reserve(refused, null, { inputs: 1, bytes: 100 }, NOBODY, MINUTE_MS, rules);

    expect(refused.requests.perMinute).toBeCloseTo(60 * 0.98 * 0.7);
    expect(refused.cooldownUntilMs).toBe(MINUTE_MS + 2_000);
    expect(answer.go).toBe(false);
  });

  test('of one moment is one cut, however many requests were on their way', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 5_000 }), { minLength: 1, maxLength: 40 }), (late) => {
        const account = refill(accountOf(60, 60_000), MINUTE_MS, rules);
        let refused = account;
        for (const lateMs of late.toSorted((a, b) => a - b)) {
          refused = refuse(
            { ...refused, atMs: MINUTE_MS + lateMs },
            takenAt(MINUTE_MS, account),
            refusal,
            rules,
          );
        }
        expect(refused.requests.perMinute).toBeCloseTo(account.requests.perMinute * 0.7);
      }),
    );
  });

  test('that tells the limit for the first time sets the rate instead of cutting it', () => {
    const account = openAccount(0, rules, 'tier');
    const limits = { ...NO_LIMITS, requestsLimit: 60, requestsRemaining: 0 };
    const refused = refuse(account, takenAt(0, account), { retryAfterMs: 1_000, limits }, rules);

    expect(refused.requests.perMinute).toBeCloseTo(60 * 0.98);
  });

  test('is forgotten a minute of work later', () => {
    const account = refill(accountOf(60, 60_000), MINUTE_MS, rules);
    let refused = refuse(account, takenAt(MINUTE_MS, account), refusal, rules);
    for (let second = 1; second <= 60; second++) {
      refused = refill(drained(refused), MINUTE_MS + second * 1_000, rules);
    }

    expect(refused.requests.perMinute).toBeCloseTo(60 * 0.98);
  });
});
