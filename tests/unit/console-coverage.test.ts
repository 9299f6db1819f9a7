import { expect, test } from 'vitest';
import { partsOf } from '../../src/http/console/overview.ts';

test('the parts of a coverage add up to the rows, with a stale row in one of them', () => {
  const coverage = {
    missing: 10,
    stale: 4,
    unverified: 3,
    quarantined: 2,
    unembeddable: 1,
    embedded: 100,
    estimated: false,
  };

  const parts = partsOf(coverage);

  expect(Object.fromEntries(parts.map(({ kind, rows }) => [kind, rows]))).toEqual({
    ...{ embedded: 100, stale: 4, missing: 6, unverified: 3, quarantined: 2, unembeddable: 1 },
  });
  expect(parts.reduce((sum, { rows }) => sum + rows, 0)).toBe(116);
});
