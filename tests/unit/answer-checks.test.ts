import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { EmbedError } from '../../src/core/failures.ts';
import { checkAnswer } from '../../src/openai/answer-checks.ts';

type Item = { index: unknown; embedding: unknown };

function base64(...values: number[]): string {
  return Buffer.from(Float32Array.from(values).buffer).toString('base64');
}

function answer(data: unknown, usage: unknown = { prompt_tokens: 7, total_tokens: 7 }): unknown {
  return { object: 'list', data, usage };
}

function codeOf(body: unknown, expected = { inputs: 2, dimensions: 3 }): string {
  try {
    checkAnswer(body, expected);
  } catch (error) {
    if (error instanceof EmbedError) return error.code;
    throw error;
  }
  return 'accepted';
}

describe('checkAnswer', () => {
  test('reads vectors from base64 and from arrays', () => {
    const data = [
      { index: 0, embedding: base64(0.5, -1.25, 2) },
      { index: 1, embedding: [0.5, 0, -0.25] },
    ];

    const { vectors, tokens } = checkAnswer(answer(data), { inputs: 2, dimensions: 3 });

    expect(vectors).toEqual([Float32Array.of(0.5, -1.25, 2), Float32Array.of(0.5, 0, -0.25)]);
    expect(tokens).toBe(7);
  });

  test('puts a reordered answer into the order of the inputs', () => {
    const data = [2, 0, 1].map((index) => ({ index, embedding: base64(index + 1, 0, 0) }));

    const { vectors } = checkAnswer(answer(data), { inputs: 3, dimensions: 3 });

    expect(vectors.map((vector) => vector[0])).toEqual([1, 2, 3]);
  });

  test('refuses a count that is not the count of the inputs', () => {
    const one = { index: 0, embedding: [1, 2, 3] };

    expect(codeOf(answer([one]))).toBe('answer_wrong_count');
    expect(codeOf(answer([one, { ...one, index: 1 }, { ...one, index: 2 }]))).toBe('answer_wrong_count');
    expect(codeOf(answer([]))).toBe('answer_wrong_count');
  });

  test('refuses an index that comes twice, is out of range, or is none', () => {
    const withIndexes = (...indexes: unknown[]): unknown =>
      answer(indexes.map((index): Item => ({ index, embedding: [1, 2, 3] })));

    expect(codeOf(withIndexes(0, 1))).toBe('accepted');
    expect(codeOf(withIndexes(0, 0))).toBe('answer_duplicate_index');
    for (const index of [-1, 2, 0.5, 'one', '-1', null, undefined])
      expect(codeOf(withIndexes(0, index))).toBe('answer_malformed');
  });

  test.each<[string, unknown[]]>([
    ['missing everywhere: the order of the answer counts', [undefined, undefined, undefined]],
    ['null everywhere', [null, null, null]],
    ['missing on the first item alone, as servers have it that leave zeros out', [undefined, 1, 2]],
    ['a string of digits', ['0', '1', '2']],
  ])('takes an index that is %s', (_what, indexes) => {
    const data = indexes.map((index, place) => ({
      ...(index !== undefined && { index }),
      embedding: [place + 1, 2, 3],
    }));

    const { vectors } = checkAnswer({ data }, { inputs: 3, dimensions: 3 });

    expect(vectors.map((vector) => vector[0])).toEqual([1, 2, 3]);
  });

  test.each<[unknown[]]>([[[undefined, undefined, 2]], [[undefined, 0, 1]], [[0, 0, 0]], [[1, 2, 3]]])(
    'refuses indexes that contradict each other or the inputs: %j',
    (indexes) => {
      const data = indexes.map((index) => ({ ...(index !== undefined && { index }), embedding: [1, 2, 3] }));

      expect(codeOf({ data }, { inputs: 3, dimensions: 3 })).toMatch(/^answer_(duplicate_index|malformed)$/);
    },
  );

  const spoilt: readonly [string, unknown][] = [
    ['answer_wrong_dimensions', [1, 2]],
    ['answer_wrong_dimensions', [1, 2, 3, 4]],
    ['answer_wrong_dimensions', base64(1, 2)],
    ['answer_wrong_dimensions', base64(1, 2, 3, 4)],
    ['answer_wrong_dimensions', ''],
    ['answer_malformed', '!!!!????!!!!????'],
    ['answer_malformed', null],
    ['answer_malformed', { '0': 1 }],
    ['answer_not_finite', [1, null, 3]],
    ['answer_not_finite', [1, '2', 3]],
    ['answer_not_finite', [1, 1e39, 3]],
    ['answer_not_finite', base64(1, Number.NaN, 3)],
    ['answer_not_finite', base64(1, Number.POSITIVE_INFINITY, 3)],
    ['answer_all_zero', [0, 0, -0]],
    ['answer_all_zero', base64(0, 0, 0)],
  ];

  test('refuses a vector that is not one of the expected numbers', () => {
    for (const [code, embedding] of spoilt) {
      expect(
        codeOf(answer([{ index: 0, embedding }]), { inputs: 1, dimensions: 3 }),
        JSON.stringify(embedding),
      ).toBe(code);
    }
  });

  test('one wrong vector refuses the whole answer, wherever it stands', () => {
    for (const position of [0, 1]) {
      const data = [0, 1].map((index) => ({ index, embedding: index === position ? [0, 0, 0] : [1, 2, 3] }));
      expect(codeOf(answer(data))).toBe('answer_all_zero');
    }
  });

  test('refuses what is no embeddings answer', () => {
    for (const body of [
      null,

      'text',
      3,
      [],
      {},
      { data: {} },
      { data: [null, 1] },
      '<html></html>',
    ]) {
      expect(codeOf(body), JSON.stringify(body)).toBe('answer_malformed');
    }
  });

  test('says zero tokens when the provider does not say or says nonsense', () => {
    const data = [{ index: 0, embedding: [1, 2, 3] }];
    const tokensOf = (usage: unknown) =>
      checkAnswer(answer(data, usage), { inputs: 1, dimensions: 3 }).tokens;

    expect(tokensOf({ prompt_tokens: 5 })).toBe(5);
    for (const usage of [null, {}, { total_tokens: '5' }, { total_tokens: -1 }, { total_tokens: 1.5 }]) {
      expect(tokensOf(usage)).toBe(0);
    }
  });

  test('carries what is known of the answer into the error', () => {
    const check = () =>
      checkAnswer(answer([]), { inputs: 1, dimensions: 3 }, { requestId: 'req_1', status: 200 });

    expect(check).toThrow(
      expect.objectContaining({ code: 'answer_wrong_count', requestId: 'req_1', status: 200 }),
    );
  });

  test('property: any finite vectors in any order come back as the same floats in the order of the inputs', () => {
    const float = fc.float({ noNaN: true, noDefaultInfinity: true });
    const vector = fc
      .array(float, { minLength: 4, maxLength: 4 })
      .filter((values) => values.some((value) => value !== 0));
    const given = fc.array(fc.tuple(vector, fc.boolean(), fc.double({ noNaN: true })), {
      minLength: 1,
      maxLength: 12,
    });
    fc.assert(
      fc.property(given, (inputs) => {
        const items = inputs.map(([values, asBase64, order], index) => ({
          item: { index, embedding: asBase64 ? base64(...values) : values },
          order,
        }));
        const shuffled = items.toSorted((a, b) => a.order - b.order).map(({ item }) => item);

        const { vectors } = checkAnswer(answer(shuffled), { inputs: inputs.length, dimensions: 4 });

        expect(vectors).toEqual(inputs.map(([values]) => Float32Array.from(values)));
      }),
    );
  });
});
