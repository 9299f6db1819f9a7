import fc from 'fast-check';
import { expect, test } from 'vitest';
import { costUsd, tokensRange, USD_PER_MILLION_TOKENS } from '../../src/core/cost.ts';

test('a million tokens cost what the table says', () => {
  for (const [model, usd] of Object.entries(USD_PER_MILLION_TOKENS))
    expect(costUsd(model, 1_000_000)).toBeCloseTo(usd, 12);
  expect(costUsd('text-embedding-3-small', 0)).toBe(0);
});

test('a model that is not in the table has no price and is no error', () => {
  for (const model of ['nomic-embed-text', '', 'constructor', '__proto__'])
    expect(costUsd(model, 1_000)).toBeNull();
});

test('property: the range of tokens is in order and never above the bytes', () => {
  fc.assert(
    fc.property(fc.nat({ max: 1e12 }), (bytes) => {
      const { low, high } = tokensRange(bytes);
      expect(low).toBeLessThanOrEqual(high);
      expect(high).toBeLessThanOrEqual(bytes);
    }),
  );
});
