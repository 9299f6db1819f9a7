import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { EmbedError } from '../../src/core/failures.ts';
import { type BisectOptions, bisect, halves, isRefusal, splitRequestsMax } from '../../src/core/splitting.ts';

const CONTROL = -1;

/** A provider that refuses a request that holds a bad input, and remembers what it was sent. */
function provider(bad: ReadonlySet<number>, overrides: Partial<BisectOptions<number, string>> = {}) {
  const sent: (readonly number[])[] = [];
  const kept: number[] = [];
  const blamed: number[] = [];
  const options: BisectOptions<number, string> = {
    control: CONTROL,
    embed: async (part) => {
      sent.push(part);
      if (part.some((input) => bad.has(input)))
        throw new EmbedError('input_rejected', { providerMessage: 'bad' });
      return part.join();
    },
    onAnswer: (part) => void kept.push(...part),
    onRefused: ({ input }) => void blamed.push(input),
    ...overrides,
  };
  return { sent, kept, blamed, options };
}

function upTo(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}

const ascending = (a: number, b: number) => a - b;

describe('bisect', () => {
  test('a request that is accepted is one request', async () => {
    const { sent, options } = provider(new Set());

    const { answered, refused, requests } = await bisect(upTo(50), options);

    expect(answered).toEqual([[upTo(50), upTo(50).join()]]);
    expect([refused, requests, sent.length]).toEqual([[], 1, 1]);
  });

  test('nothing to send is no request', async () => {
    const { options } = provider(new Set());

    await expect(bisect([], options)).resolves.toEqual({ answered: [], refused: [], requests: 0 });
  });

  test('one bad input in two thousand costs at most 2 + 2·log2(n) requests more, wherever it is', async () => {
    for (const position of [0, 1, 999, 1_000, 1_337, 1_999]) {
      const { kept, blamed, options } = provider(new Set([position]));

      const { requests } = await bisect(upTo(2_000), options);

      expect(blamed).toEqual([position]);
      expect(kept).toHaveLength(1_999);
      expect(requests - 1).toBeLessThanOrEqual(2 + 2 * Math.log2(2_000));
    }
  });

  test('ten bad inputs in two thousand are found wherever they lie, side by side at the start too', async () => {
    const places = [
      upTo(10),
      upTo(10).map((index) => 1_990 + index),
      upTo(10).map((index) => index * 200),
      upTo(10).map((i) => 995 + i),
    ];
    for (const place of places) {
      const { kept, blamed, options } = provider(new Set(place));

      const { requests } = await bisect(upTo(2_000), options);

      expect(blamed.toSorted(ascending)).toEqual(place);
      expect(kept).toHaveLength(1_990);
      expect(requests - 1).toBeLessThanOrEqual(splitRequestsMax(2_000, 10));
    }
  });

  test('when every input is refused, the request is to blame and no input', async () => {
    for (const count of [8, 16, 50, 2_000]) {
      const { sent, blamed, options } = provider(new Set(upTo(count)));

      await expect(bisect(upTo(count), options)).rejects.toMatchObject({
        code: 'request_invalid',
        providerMessage: 'bad',
      });

      expect(blamed).toEqual([]);
      expect(sent.length).toBeLessThanOrEqual(40);
    }
  });

  test('what is wrong with more than the request shows with a plain word, before the request is blamed', async () => {
    const { blamed, options } = provider(new Set(upTo(50)));
    const embed = async (part: readonly number[]) => {
      if (part.includes(CONTROL)) throw new EmbedError('key_invalid');
      return options.embed(part);
    };

    await expect(bisect(upTo(50), { ...options, embed })).rejects.toMatchObject({ code: 'key_invalid' });

    expect(blamed).toEqual([]);
  });

  test('many inputs that are all refused for their length are to blame if a plain word is accepted', async () => {
    for (const providerMessage of ['maximum context length is 512 tokens', 'the input is too long']) {
      const { sent, blamed, options } = provider(new Set());
      const accept = options.embed;
      const embed = async (part: readonly number[]) => {
        const answer = await accept(part);
        if (!part.includes(CONTROL)) throw new EmbedError('input_rejected', { providerMessage });
        return answer;
      };

      await bisect(upTo(50), { ...options, embed });

      expect(blamed.toSorted(ascending)).toEqual(upTo(50));
      expect(sent.filter((part) => part.includes(CONTROL))).toHaveLength(1);
    }
  });

  test('many inputs that are all refused for their length are not to blame if a plain word is refused too', async () => {
    const { blamed, options } = provider(new Set());
    const embed = async () => {
      throw new EmbedError('input_rejected', { providerCode: 'context_length_exceeded' });
    };

    await expect(bisect(upTo(50), { ...options, embed })).rejects.toMatchObject({ code: 'request_invalid' });

    expect(blamed).toEqual([]);
  });

  test('a few inputs that are all refused are to blame if a plain word is accepted', async () => {
    for (const count of [1, 2, 7]) {
      const { sent, blamed, options } = provider(new Set(upTo(count)));

      await bisect(upTo(count), options);

      expect(blamed).toEqual(upTo(count));
      expect(sent.at(-1)).toEqual([CONTROL]);
    }
  });

  test('a few inputs that are all refused are not to blame if a plain word is refused too', async () => {
    for (const count of [1, 2, 7]) {
      const { blamed, options } = provider(new Set([...upTo(count), CONTROL]));

      await expect(bisect(upTo(count), options)).rejects.toMatchObject({ code: 'request_invalid' });

      expect(blamed).toEqual([]);
    }
  });

  test('a request that was accepted before cannot be wrong, so all refused inputs are to blame', async () => {
    const { sent, blamed, options } = provider(new Set(upTo(20)), { proven: true });

    await bisect(upTo(20), options);

    expect(blamed).toEqual(upTo(20));
    expect(sent).not.toContainEqual([CONTROL]);
  });

  test('a request that is only too large is halved until its parts fit', async () => {
    const { kept, blamed, options } = provider(new Set());
    const accept = options.embed;
    const embed = async (part: readonly number[]) => {
      if (part.length > 10) throw new EmbedError('request_too_large');
      return accept(part);
    };

    await bisect(upTo(100), { ...options, embed });

    expect(kept).toEqual(upTo(100));
    expect(blamed).toEqual([]);
  });

  test('inputs that are each too large a request are to blame, all of them', async () => {
    const { blamed, options } = provider(new Set());
    const embed = async () => {
      throw new EmbedError('request_too_large');
    };

    const { refused } = await bisect(upTo(20), { ...options, embed });

    expect(refused).toHaveLength(20);
    expect(blamed).toEqual(upTo(20));
  });

  test('another failure ends the work at once, and what was certain until then was told', async () => {
    const { sent, kept, blamed, options } = provider(new Set([3]));
    const accept = options.embed;
    const embed = async (part: readonly number[]) => {
      if (part.includes(60)) throw new EmbedError(part.length === 100 ? 'input_rejected' : 'rate_limited');
      return accept(part);
    };

    await expect(bisect(upTo(100), { ...options, embed })).rejects.toMatchObject({ code: 'rate_limited' });

    expect(kept.toSorted(ascending)).toEqual(upTo(50).filter((input) => input !== 3));
    expect(blamed).toEqual([3]);
    expect(sent.flat()).not.toContain(99);
  });

  test('a failure while an answer is being kept is no refusal', async () => {
    const { options } = provider(new Set(), {
      onAnswer: () => {
        throw new Error('database is away');
      },
    });

    await expect(bisect(upTo(4), options)).rejects.toThrow('database is away');
  });
});

describe('bisect, for any inputs and any bad ones among them', () => {
  const world = fc
    .integer({ min: 1, max: 300 })
    .chain((count) =>
      fc.tuple(fc.constant(count), fc.uniqueArray(fc.nat({ max: count - 1 }), { maxLength: count })),
    );

  test('property: every input is answered or refused once, unless sixteen bad ones, or all of fewer, make the request look wrong', async () => {
    await fc.assert(
      fc.asyncProperty(world, async ([count, bad]) => {
        const { kept, blamed, options } = provider(new Set(bad));
        const result = await bisect(upTo(count), options).catch((error: unknown) => error);

        if (result instanceof EmbedError) {
          expect(result.code).toBe('request_invalid');
          expect(blamed).toEqual([]);
          expect(bad.length).toBeGreaterThanOrEqual(Math.min(16, count));
        } else {
          expect(blamed.toSorted(ascending)).toEqual(bad.toSorted(ascending));
          expect([...kept, ...blamed].toSorted(ascending)).toEqual(upTo(count));
        }
      }),
    );
  });

  test('property: at most 2 + 2·log2(n) requests more for each refused input', async () => {
    await fc.assert(
      fc.asyncProperty(world, async ([count, bad]) => {
        const { sent, options } = provider(new Set(bad));

        await bisect(upTo(count), options).catch(() => undefined);

        expect(sent.length - 1).toBeLessThanOrEqual(splitRequestsMax(count, bad.length));
      }),
    );
  });

  test('property: inputs keep their order within a request', async () => {
    await fc.assert(
      fc.asyncProperty(world, async ([count, bad]) => {
        const { sent, options } = provider(new Set(bad));

        await bisect(upTo(count), options).catch(() => undefined);

        for (const part of sent) expect(part).toEqual(part.toSorted(ascending));
      }),
    );
  });

  test('property: the halves of a list, put together, are the list, and both are shorter', () => {
    fc.assert(
      fc.property(fc.array(fc.integer(), { minLength: 2 }), (list) => {
        const [first, second] = halves(list);
        expect([...first, ...second]).toEqual(list);
        expect(Math.max(first.length, second.length)).toBeLessThan(list.length);
        expect(first.length - second.length).toBeGreaterThanOrEqual(0);
        expect(first.length - second.length).toBeLessThanOrEqual(1);
      }),
    );
  });
});

test('only a verdict of split is a refusal', () => {
  expect(isRefusal(new EmbedError('input_rejected'))).toBe(true);
  expect(isRefusal(new EmbedError('request_too_large'))).toBe(true);
  expect(isRefusal(new EmbedError('rate_limited'))).toBe(false);
  expect(isRefusal(new Error('input_rejected'))).toBe(false);
});
