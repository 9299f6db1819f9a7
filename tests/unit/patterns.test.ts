import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { hardTextsFor, patternsOf } from '../support/patterns.ts';

const LENGTH = 20_000;
/** A pattern that takes time by the square of the length takes ten times as long and more; a linear one less than a millisecond. */
const MS_MAX = 120;

const patterns = await patternsOf(fileURLToPath(new URL('../..', import.meta.url)));

describe('a regular expression of src', () => {
  test('is found wherever one is written', () => {
    expect(patterns.length).toBeGreaterThan(80);
    expect(patterns.some(({ place }) => place.startsWith('src/core/classify-response.ts'))).toBe(true);
  });

  test('takes time by the length of the text at most, whatever the text is', () => {
    const slow = patterns.flatMap(({ place, pattern }) =>
      hardTextsFor(pattern, LENGTH)
        .map((text) => ({ text, ms: msOf(pattern, text) }))
        .filter(({ ms }) => ms > MS_MAX)
        .map(
          ({ text, ms }) =>
            `${place} ${pattern} takes ${Math.round(ms)} ms for ${JSON.stringify(text.slice(0, 40))}…`,
        ),
    );
    expect(slow).toEqual([]);
  });
});

/** The least of three, in CPU time: a busy machine, and a collection of garbage, are no fault of the pattern. */
function msOf(pattern: RegExp, text: string): number {
  // As replaceAll and matchAll do: from every place on.
  const everywhere = new RegExp(
    pattern.source,
    pattern.flags.includes('g') ? pattern.flags : `${pattern.flags}g`,
  );
  const times = [1, 2, 3].map(() => {
    const before = process.cpuUsage();
    text.replace(everywhere, '');
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1_000;
  });
  return Math.min(...times);
}
