import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { windowOf } from '../../src/core/window.ts';

const slots = fc.integer({ min: 1, max: 2_000 });
const tenants = fc.integer({ min: 1, max: 5_000 });
const weight = fc.double({ min: 0.01, max: 100, noNaN: true });
const windowStart = 4;

describe('windowOf', () => {
  test('a lone tenant fills every slot, with a reserve', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 800 }), weight, (workerSlots, own) => {
        const window = windowOf({
          workerSlots,
          activeTenants: 1,
          totalWeight: own,
          weight: own,
          windowStart,
        });
        expect(window).toBeGreaterThanOrEqual(workerSlots);
        expect(window).toBeLessThanOrEqual(workerSlots * 1.25 + 1);
      }),
    );
  });

  test('a hundred tenants on 400 slots get four each, and a reserve of one', () => {
    expect(windowOf({ workerSlots: 400, activeTenants: 100, windowStart })).toBe(5);
  });

  test('is at least 1 and at most its maximum', () => {
    fc.assert(
      fc.property(
        slots,
        tenants,
        weight,
        fc.integer({ min: 1, max: 64 }),
        (workerSlots, activeTenants, own, windowMax) => {
          const totalWeight = own + activeTenants;
          const window = windowOf({
            workerSlots,
            activeTenants,
            totalWeight,
            weight: own,
            windowStart,
            windowMax,
          });
          expect(Number.isInteger(window)).toBe(true);
          expect(window).toBeGreaterThanOrEqual(1);
          expect(window).toBeLessThanOrEqual(windowMax);
        },
      ),
    );
  });

  test('never shrinks when slots are added', () => {
    fc.assert(
      fc.property(slots, slots, tenants, (workerSlots, more, activeTenants) => {
        const fewer = windowOf({ workerSlots, activeTenants, windowStart });
        expect(
          windowOf({ workerSlots: workerSlots + more, activeTenants, windowStart }),
        ).toBeGreaterThanOrEqual(fewer);
      }),
    );
  });

  test('never grows when tenants come', () => {
    fc.assert(
      fc.property(slots, tenants, tenants, (workerSlots, activeTenants, more) => {
        const alone = windowOf({ workerSlots, activeTenants, windowStart });
        const crowded = windowOf({ workerSlots, activeTenants: activeTenants + more, windowStart });
        expect(crowded).toBeLessThanOrEqual(alone);
      }),
    );
  });

  test('never shrinks when the tenant gains weight and the others keep theirs', () => {
    fc.assert(
      fc.property(slots, weight, weight, weight, (workerSlots, own, gain, others) => {
        const of = (mine: number) =>
          windowOf({ workerSlots, activeTenants: 2, totalWeight: mine + others, weight: mine, windowStart });
        // A share that lands on a whole number may be rounded either way.
        expect(of(own + gain)).toBeGreaterThanOrEqual(of(own) - (gain < 1e-6 ? 1 : 0));
      }),
    );
  });

  test('together the tenants get every slot, and at most a reserve and one batch each beyond', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 800 }),
        fc.array(weight, { minLength: 1, maxLength: 50 }),
        (workerSlots, weights) => {
          const totalWeight = weights.reduce((sum, each) => sum + each, 0);
          const windows = weights.map((own) =>
            windowOf({ workerSlots, activeTenants: weights.length, totalWeight, weight: own, windowStart }),
          );
          const sum = windows.reduce((total, window) => total + window, 0);
          expect(sum).toBeGreaterThanOrEqual(workerSlots);
          expect(sum).toBeLessThanOrEqual(workerSlots * 1.25 + weights.length + 1e-6);
        },
      ),
    );
  });

  test('begins with the configured window while nobody knows how many slots there are', () => {
    expect(windowOf({ workerSlots: 0, activeTenants: 10, windowStart })).toBe(4);
  });

  test('refuses a weight that is not above zero', () => {
    expect(() => windowOf({ workerSlots: 4, activeTenants: 1, weight: 0, windowStart })).toThrow(/above 0/);
  });
});
