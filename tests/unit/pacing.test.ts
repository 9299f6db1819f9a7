import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Fixed, fixedRates, openFixed } from '../../src/core/fixed-limits.ts';
import {
  estimateTokens,
  nextRatio,
  refill,
  settle,
  spreadMs,
  take,
  waitMsFor,
} from '../../src/core/pacing.ts';
import { reserve } from '../../src/core/reservation.ts';
import { accountOf, MINUTE_MS, NO_LIMITS, rules, takenAt } from '../support/pacing.ts';

const NOBODY = { requests: 0, tokens: 0, inFlight: 0 };
const limit = fc.integer({ min: 1, max: 10_000_000 });
const size = fc.record({
  inputs: fc.integer({ min: 1, max: 2_048 }),
  bytes: fc.integer({ min: 1, max: 300_000 }),
});

describe('reserve', () => {
  test('takes from every bucket or from none', () => {
    fc.assert(
      fc.property(limit, limit, fc.array(size, { maxLength: 60 }), (requestsLimit, tokensLimit, sizes) => {
        const rates = fixedRates({ requestsPerMinute: 30, tokensPerMinute: 200_000 });
        let account = accountOf(requestsLimit, tokensLimit);
        let fixed: Fixed | null = rates && { rates, levels: openFixed(0, rates) };
        for (const asked of sizes) {
          const decided = reserve(account, fixed, asked, NOBODY, 0, rules);
          const spent = decided.answer.go ? decided.answer.taken.tokens : 0;
          const requests = decided.answer.go ? 1 : 0;
          expect(decided.account.requests.level).toBe(account.requests.level - requests);
          expect(decided.account.tokens.level).toBe(account.tokens.level - spent);
          expect(decided.fixed?.levels.requests).toBe((fixed?.levels.requests ?? 0) - requests);
          expect(decided.fixed?.levels.tokens).toBe((fixed?.levels.tokens ?? 0) - spent);
          ({ account, fixed } = decided);
        }
      }),
    );
  });

  test('lets through no more than a full bucket and what flows into it', () => {
    const arrivals = fc.array(fc.record({ size, afterMs: fc.integer({ min: 0, max: 2_000 }) }), {
      maxLength: 200,
    });
    fc.assert(
      fc.property(fc.integer({ min: 10, max: 5_000 }), arrivals, (requestsLimit, asks) => {
        let account = accountOf(requestsLimit, 1_000_000);
        const sentMs: number[] = [];
        let nowMs = 0;
        for (const asked of asks) {
          nowMs += asked.afterMs;
          const decided = reserve(refill(account, nowMs, rules), null, asked.size, NOBODY, nowMs, rules);
          account = decided.account;
          if (decided.answer.go) sentMs.push(nowMs + decided.answer.waitMs);
        }
        const lastMs = Math.max(0, ...sentMs);
        expect(sentMs.length).toBeLessThanOrEqual(
          requestsLimit * (0.98 + (0.98 * lastMs) / MINUTE_MS) + 1e-6,
        );
      }),
    );
  });

  test('a request larger than its bucket goes when the bucket is full, and pays back afterwards', () => {
    const account = accountOf(3_000, 10_000, { bytesPerToken: 1 });
    const first = reserve(account, null, { inputs: 1, bytes: 40_000 }, NOBODY, 0, rules);
    const second = reserve(first.account, null, { inputs: 1, bytes: 100 }, NOBODY, 0, rules);

    expect(first.answer).toMatchObject({ go: true, waitMs: 0 });
    expect(second.answer).toMatchObject({ go: false, because: 'tokens' });
  });

  test('who would wait over a second is told to come a little before its turn', () => {
    const empty = { ...accountOf(60, 1_000_000).requests, level: 0 };
    const account = accountOf(60, 1_000_000, { requests: empty });
    const ahead = { requests: 9, tokens: 900, inFlight: 0 };
    const turnMs = Math.ceil((10 / 58.8) * MINUTE_MS);

    const { answer } = reserve(account, null, { inputs: 1, bytes: 300 }, ahead, 0, rules);

    expect(answer).toEqual({ go: false, because: 'requests', waitMs: Math.floor(turnMs * 0.8) });
  });

  test('waits no less for more, nor behind more', () => {
    const units = fc.double({ min: 0, max: 1e6, noNaN: true });
    const bucket = fc.record({
      level: fc.double({ min: -1e5, max: 1e5, noNaN: true }),
      capacity: fc.double({ min: 1, max: 1e5, noNaN: true }),
      perMinute: fc.double({ min: 1, max: 1e6, noNaN: true }),
    });
    fc.assert(
      fc.property(bucket, units, units, units, units, (given, first, more, ahead, further) => {
        const waitMs = waitMsFor(given, first, ahead);
        expect(waitMsFor(given, first + more, ahead)).toBeGreaterThanOrEqual(waitMs);
        expect(waitMsFor(given, first, ahead + further)).toBeGreaterThanOrEqual(waitMs);
      }),
    );
  });
});

describe('estimates', () => {
  test('are never above the bytes and never below one token an input', () => {
    fc.assert(
      fc.property(size, fc.double({ min: 1, max: 16, noNaN: true }), (asked, ratio) => {
        const tokens = estimateTokens(asked, ratio, rules);
        expect(tokens).toBeLessThanOrEqual(Math.max(asked.bytes, asked.inputs));
        expect(tokens).toBeGreaterThanOrEqual(asked.inputs);
      }),
    );
  });

  test('the ratio stays between what it was and what was observed', () => {
    const ratio = fc.double({ min: 1, max: 16, noNaN: true });
    fc.assert(
      fc.property(
        ratio,
        fc.integer({ min: 1, max: 300_000 }),
        fc.integer({ min: 1, max: 300_000 }),
        (was, bytes, tokens) => {
          const observed = Math.min(16, Math.max(1, bytes / tokens));
          const next = nextRatio(was, bytes, tokens, rules);
          expect(next).toBeGreaterThanOrEqual(Math.min(was, observed) - 1e-9);
          expect(next).toBeLessThanOrEqual(Math.max(was, observed) + 1e-9);
        },
      ),
    );
  });

  test('an estimate is corrected by what the provider counted', () => {
    const account = take(accountOf(3_000, 1_000_000), 1_000);
    const settled = settle(account, takenAt(0, account, 1_000), { tokens: 400, limits: NO_LIMITS }, rules);

    expect(settled.tokens.level).toBe(account.tokens.level + 600);
  });
});

test('a spread wait is never shorter, and longer by at most a tenth or 100 ms', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 1e7 }),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      (waitMs, random) => {
        const spread = spreadMs(waitMs, random);
        expect(spread).toBeGreaterThanOrEqual(waitMs);
        expect(spread).toBeLessThanOrEqual(waitMs + Math.min(5_000, Math.max(100, waitMs / 10)));
        expect(spread - waitMs).toBeLessThan(rules.lineGraceMs);
      },
    ),
  );
});
