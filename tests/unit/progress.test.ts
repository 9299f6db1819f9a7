import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { etaSeconds, progressPercent, type RowCounts, rowsDone } from '../../src/core/progress.ts';

const counts = (changed: Partial<RowCounts> = {}): RowCounts => ({
  planned: 200,
  embedded: 0,
  superseded: 0,
  gone: 0,
  quarantined: 0,
  failed: 0,
  ...changed,
});
const amount = fc.integer({ min: 0, max: 1_000_000 });
const anyCounts = fc.record({
  planned: amount,
  embedded: amount,
  superseded: amount,
  gone: amount,
  quarantined: amount,
  failed: amount,
});

describe('progress', () => {
  test('counts rows that need no more work, in whatever way they ended; not those to be taken up again', () => {
    const ended = counts({ embedded: 40, gone: 5, quarantined: 4, failed: 1, superseded: 100 });

    expect(rowsDone(ended)).toBe(50);
    expect(progressPercent(ended, false)).toBe(25);
  });

  test('is 0 before anything was planned, and 100 when the run is settled, whatever was left', () => {
    expect(progressPercent(counts({ planned: 0 }), false)).toBe(0);
    expect(progressPercent(counts(), true)).toBe(100);
    expect(progressPercent(counts({ planned: 0 }), true)).toBe(100);
  });

  test('invariant: a whole number from 0 to 99 until the run is settled, also when rows arrive that nobody planned', () => {
    fc.assert(
      fc.property(anyCounts, (any) => {
        const percent = progressPercent(any, false);
        expect(Number.isInteger(percent)).toBe(true);
        expect(percent).toBeGreaterThanOrEqual(0);
        expect(percent).toBeLessThanOrEqual(99);
      }),
    );
  });

  test('invariant: never goes back while rows are done', () => {
    fc.assert(
      fc.property(anyCounts, amount, (any, more) => {
        const later = { ...any, embedded: any.embedded + more };
        expect(progressPercent(later, false)).toBeGreaterThanOrEqual(progressPercent(any, false));
      }),
    );
  });
});

describe('the time left', () => {
  test('follows the average speed so far', () => {
    expect(etaSeconds(counts({ embedded: 50 }), 10_000, 20_000)).toBe(30);
    expect(etaSeconds(counts({ embedded: 200 }), 10_000, 20_000)).toBe(0);
    expect(etaSeconds(counts({ embedded: 300 }), 10_000, 20_000)).toBe(0);
  });

  test('is not known before the run has begun, nor before it has done anything', () => {
    expect(etaSeconds(counts({ embedded: 50 }), null, 20_000)).toBeNull();
    expect(etaSeconds(counts(), 10_000, 20_000)).toBeNull();
    expect(etaSeconds(counts({ embedded: 50 }), 20_000, 20_000)).toBeNull();
  });

  test('invariant: when it is known it is finite and not negative', () => {
    fc.assert(
      fc.property(anyCounts, amount, amount, (any, startedAtMs, nowMs) => {
        const eta = etaSeconds(any, startedAtMs, nowMs);
        if (eta !== null) expect(eta >= 0 && Number.isFinite(eta)).toBe(true);
      }),
    );
  });
});
