import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { backoffCeilingMs, backoffMs, snoozeMs } from '../../src/core/backoff.ts';

const OPTIONS = { baseMs: 1_000, maxMs: 60_000 };
const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

describe('backoffMs', () => {
  test('doubles its ceiling with every attempt, up to the longest delay', () => {
    const ceilings = [1, 2, 3, 4, 5, 6, 7, 8].map((attempt) => backoffCeilingMs(attempt, OPTIONS));

    expect(ceilings).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
  });

  test('spreads over the whole delay', () => {
    expect(backoffMs(3, 0, OPTIONS)).toBe(0);
    expect(backoffMs(3, 0.5, OPTIONS)).toBe(2_000);
    expect(backoffMs(3, 0.999_999_9, OPTIONS)).toBe(4_000);
  });

  test('property: a delay is a whole number from zero to the ceiling, at the thousandth attempt too', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2_000 }), random, (attempt, chance) => {
        const delayMs = backoffMs(attempt, chance, OPTIONS);
        expect(Number.isInteger(delayMs)).toBe(true);
        expect(delayMs).toBeGreaterThanOrEqual(0);
        expect(delayMs).toBeLessThanOrEqual(backoffCeilingMs(attempt, OPTIONS));
      }),
    );
  });

  test('property: with the same chance, a later attempt never waits less', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 100 }), random, (attempt, chance) => {
        expect(backoffMs(attempt + 1, chance, OPTIONS)).toBeGreaterThanOrEqual(
          backoffMs(attempt, chance, OPTIONS),
        );
      }),
    );
  });
});

describe('snoozeMs', () => {
  test('property: never comes back early, and at most five seconds late', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 86_400_000 }), random, (waitMs, chance) => {
        const delayMs = snoozeMs(waitMs, chance);
        expect(delayMs).toBeGreaterThanOrEqual(waitMs);
        expect(delayMs).toBeLessThanOrEqual(waitMs + 5_000);
      }),
    );
  });
});
