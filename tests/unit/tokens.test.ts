import fc from 'fast-check';
import { countTokens as countExactly } from 'gpt-tokenizer/encoding/cl100k_base';
import { describe, expect, test } from 'vitest';
import { countTokens, truncateToTokens } from '../../src/openai/tokens.ts';

const PLAIN = { disallowedSpecial: new Set<string>() };
const words = fc.array(
  fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.constantFrom('hello ', '\n\n', '日本語', '👩‍👩‍👧', '  ', "it's ", '<|endoftext|>', '1234'),
  ),
  {
    maxLength: 60,
  },
);
const text = words.map((list) => list.join('').toWellFormed());

describe('countTokens', () => {
  test('property: counts what the tokeniser counts for any text of ordinary words', async () => {
    await fc.assert(
      fc.asyncProperty(text, async (sample) => {
        expect(await countTokens(sample)).toBe(countExactly(sample, PLAIN));
      }),
    );
  });

  test('property: no text has more tokens than bytes', async () => {
    await fc.assert(
      fc.asyncProperty(text, async (sample) => {
        expect(await countTokens(sample)).toBeLessThanOrEqual(Buffer.byteLength(sample));
      }),
    );
  });

  test('stops when there are more than asked for', async () => {
    const counted = await countTokens('word '.repeat(100_000), 100);

    expect(counted).toBeGreaterThan(100);
    expect(counted).toBeLessThan(200);
  });

  test('takes text that looks like a special token as text', async () => {
    await expect(countTokens('<|im_start|><|endoftext|>')).resolves.toBeGreaterThan(2);
  });
});

describe('truncateToTokens', () => {
  test('property: is a beginning of the text, whole characters only, of at most so many tokens', async () => {
    await fc.assert(
      fc.asyncProperty(text, fc.integer({ min: 0, max: 80 }), async (sample, tokensMax) => {
        const cut = await truncateToTokens(sample, tokensMax);
        expect(sample.startsWith(cut)).toBe(true);
        expect(cut.isWellFormed()).toBe(true);
        expect(countExactly(cut, PLAIN)).toBeLessThanOrEqual(tokensMax);
      }),
    );
  });

  test('property: leaves a text alone that fits', async () => {
    await fc.assert(
      fc.asyncProperty(text, async (sample) => {
        expect(await truncateToTokens(sample, countExactly(sample, PLAIN))).toBe(sample);
      }),
    );
  });

  test('ends between words, and uses nearly all tokens', async () => {
    const cut = await truncateToTokens('The quick brown fox jumps over the lazy dog. '.repeat(2_000), 8_191);

    expect(cut).toMatch(/(The|quick|brown|fox|jumps|over|the|lazy|dog|\.)$/);
    expect(countExactly(cut, PLAIN)).toBeGreaterThan(8_180);
  });

  // Merging the bytes of one such run takes minutes; the tokeniser alone needs 36 s for 200,000 spaces.
  test.each([
    ['letters', 'a'.repeat(1_000_000)],
    ['spaces', ' '.repeat(1_000_000)],
    ['signs', '=-'.repeat(500_000)],
    ['ideographs', '日本語'.repeat(100_000)],
    ['pairs of code units', '😀'.repeat(200_000)],
  ])('takes under a second for a megabyte of %s without a border', async (_, run) => {
    const startedMs = performance.now();

    const cut = await truncateToTokens(run, 8_191);

    expect(performance.now() - startedMs).toBeLessThan(1_000);
    expect(run.startsWith(cut) && cut.isWellFormed() && cut.length > 5_000).toBe(true);
    expect(await countTokens(run, 8_191)).toBeGreaterThan(8_191);
  });
});
