import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { fail, probed } from '../../src/core/breaker.ts';
import { type Fixed, fixedRates, openFixed, refillFixed } from '../../src/core/fixed-limits.ts';
import { refill } from '../../src/core/pacing.ts';
import { reserve } from '../../src/core/reservation.ts';
import { accountOf, MINUTE_MS, rules } from '../support/pacing.ts';

const NOBODY = { requests: 0, tokens: 0, inFlight: 0 };

describe('fixed limits', () => {
  const asks = fc.array(
    fc.record({
      afterMs: fc.integer({ min: 0, max: 1_500 }),
      share: fc.double({ min: 0, max: 1, noNaN: true }),
      fails: fc.constantFrom(false, false, true),
    }),
    { minLength: 20, maxLength: 300 },
  );

  test('hold in every 60 s, for requests and for tokens, with the words that are sent after failures', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 300 }),
        fc.integer({ min: 100, max: 1_000_000 }),
        asks,
        (requestsPerMinute, tokensPerMinute, calls) => {
          const sent = sendAll(requestsPerMinute, tokensPerMinute, calls);
          for (const { atMs } of sent) {
            const window = sent.filter((call) => call.atMs >= atMs && call.atMs <= atMs + MINUTE_MS);
            expect(window.length).toBeLessThanOrEqual(requestsPerMinute);
            expect(window.reduce((sum, { tokens }) => sum + tokens, 0)).toBeLessThanOrEqual(tokensPerMinute);
          }
        },
      ),
      { numRuns: 200 },
    );
  });

  /** Asks for requests of up to what the limits take at once; callers come again when told. */
  function sendAll(
    requestsPerMinute: number,
    tokensPerMinute: number,
    calls: { afterMs: number; share: number; fails: boolean }[],
  ) {
    const rates = fixedRates({ requestsPerMinute, tokensPerMinute });
    if (rates?.tokens == null) throw new Error('limits were given');
    let account = accountOf(1_000_000, 1_000_000_000, { bytesPerToken: 1 });
    let fixed: Fixed = { rates, levels: openFixed(0, rates) };
    const sent: { atMs: number; tokens: number }[] = [];
    let nowMs = 0;
    for (const { afterMs, share, fails } of calls) {
      nowMs += afterMs;
      const bytes = Math.max(1, Math.floor(rates.tokens.capacity * share));
      for (;;) {
        fixed = { rates, levels: refillFixed(fixed.levels, nowMs, rates) };
        const decided = reserve(
          refill(account, nowMs, rules),
          fixed,
          { inputs: 1, bytes },
          NOBODY,
          nowMs,
          rules,
        );
        account = decided.account;
        fixed = decided.fixed ?? fixed;
        if (decided.answer.go) {
          sent.push({ atMs: nowMs + decided.answer.waitMs, tokens: decided.answer.taken.tokens });
          break;
        }
        nowMs += decided.answer.waitMs;
      }
      if (!fails) continue;
      const failed = fail(account, fixed, { takenMs: 0 }, nowMs, rules);
      sent.push({ atMs: nowMs + failed.waitMs, tokens: 1 });
      account = probed(failed.account, true, nowMs, rules).account;
      fixed = failed.fixed ?? fixed;
    }
    return sent;
  }

  test.each([1, 10, 60, 500, 10_000])(
    'let through at least 96 percent of %i requests a minute',
    (requestsPerMinute) => {
      const rate = fixedRates({ requestsPerMinute, tokensPerMinute: null })?.requests;
      expect(rate?.perMinute).toBeGreaterThanOrEqual(requestsPerMinute * 0.96);
    },
  );

  test('are refused when they allow nothing', () => {
    expect(() => fixedRates({ requestsPerMinute: 0, tokensPerMinute: null })).toThrow(/at least 1/);
  });
});
