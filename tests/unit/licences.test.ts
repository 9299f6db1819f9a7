import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { allowedBy, licencesOf } from '../../dev/licences/licences.ts';

const root = new URL('../../', import.meta.url);

test('every package of a production install is under a licence that lets us ship it', () => {
  const packages = licencesOf(JSON.parse(readFileSync(new URL('package-lock.json', root), 'utf8')), root);

  expect(packages.length).toBeGreaterThan(50);
  expect(packages.filter(({ licence }) => !allowedBy(licence))).toEqual([]);
});

test.each([
  ['MIT', true],
  ['(MIT OR GPL-3.0)', true],
  ['MIT AND ISC', true],
  ['MIT AND GPL-3.0', false],
  ['AGPL-3.0', false],
  ['unknown', false],
])('%s is allowed: %s', (licence, allowed) => {
  expect(allowedBy(licence)).toBe(allowed);
});
