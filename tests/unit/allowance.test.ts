import fc from 'fast-check';
import { expect, test } from 'vitest';
import { shareLimit } from '../../src/core/allowance.ts';

const sum = (numbers: readonly (number | null)[]) =>
  numbers.reduce((total: number, each) => total + (each ?? 0), 0);

test('without a limit nobody has one', () => {
  expect(shareLimit([5, 1, 9], null)).toEqual([null, null, null]);
});

test('a limit above all rows leaves nobody short', () => {
  expect(shareLimit([5, 1, 9], 100)).toEqual([5, 1, 9]);
});

test('what a small tenant leaves goes to the others', () => {
  expect(shareLimit([100, 2, 100], 22)).toEqual([10, 2, 10]);
});

test('rows that do not divide go to the first tenants', () => {
  expect(shareLimit([9, 9, 9], 5)).toEqual([2, 2, 1]);
  expect(shareLimit([9, 9, 9], 1)).toEqual([1, 0, 0]);
});

test('a limit of nothing gives nobody anything', () => {
  expect(shareLimit([9, 9], 0)).toEqual([0, 0]);
  expect(shareLimit([], 7)).toEqual([]);
});

const rows = fc.array(fc.integer({ min: 1, max: 5_000 }), { maxLength: 60 });
const limit = fc.integer({ min: 0, max: 100_000 });

test('invariant: the shares add up to the limit or to all rows, and nobody gets more than it has', () => {
  fc.assert(
    fc.property(rows, limit, (each, max) => {
      const shares = shareLimit(each, max);
      expect(sum(shares)).toBe(Math.min(max, sum(each)));
      for (const [index, share] of shares.entries()) expect(share).toBeLessThanOrEqual(each[index] ?? 0);
    }),
  );
});

test('invariant: who gets less than another has had all its rows done, but for a single row', () => {
  fc.assert(
    fc.property(rows, limit, (each, max) => {
      const shares = shareLimit(each, max).map((share) => share ?? 0);
      const most = Math.max(0, ...shares);
      for (const [index, share] of shares.entries()) {
        if (share < (each[index] ?? 0)) expect(most - share).toBeLessThanOrEqual(1);
      }
    }),
  );
});
