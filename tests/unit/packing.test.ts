import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { OPENAI_LIMITS } from '../../src/core/limits.ts';
import { type Input, inputsMaxForAttempt, packRequests, uniqueInputs } from '../../src/core/packing.ts';

const LIMITS = { requestInputsMax: 5, requestBytesMax: 100 };

function inputs(...bytes: number[]): Input[] {
  return bytes.map((size, index) => ({
    rowId: `row-${index}`,
    text: 'x',
    textHash: `hash-${index}`,
    bytes: size,
  }));
}

describe('packRequests', () => {
  test('fills a request to its bytes and its count', () => {
    const { requests } = packRequests(inputs(60, 40, 1, 1, 1, 1, 1, 1), LIMITS);

    expect(requests.map((request) => request.length)).toEqual([2, 5, 1]);
  });

  test('gives an input of more bytes than a request holds a request of its own', () => {
    const { requests } = packRequests(inputs(10, 500, 10), LIMITS);

    expect(requests.map((request) => request.map((input) => input.bytes))).toEqual([[10], [500], [10]]);
  });

  test('takes fewer inputs a request when told so, and never more than the limit', () => {
    expect(packRequests(inputs(1, 1, 1, 1), LIMITS, 1).requests).toHaveLength(4);
    expect(packRequests(inputs(1, 1, 1, 1, 1, 1), LIMITS, 50).requests).toHaveLength(2);
  });

  test('of nothing is no request', () => {
    expect(packRequests([], LIMITS)).toEqual({ requests: [], inputs: 0, bytes: 0 });
  });

  const sizes = fc.array(fc.integer({ min: 0, max: 150 }), { maxLength: 60 });

  test('property: the requests one after another are the inputs', () => {
    fc.assert(
      fc.property(sizes, fc.integer({ min: 1, max: 9 }), (bytes, inputsMax) => {
        const given = inputs(...bytes);
        expect(packRequests(given, LIMITS, inputsMax).requests.flat()).toEqual(given);
      }),
    );
  });

  test('property: no request is empty, has too many inputs, or too many bytes unless it is one input', () => {
    fc.assert(
      fc.property(sizes, fc.integer({ min: 1, max: 9 }), (bytes, inputsMax) => {
        for (const request of packRequests(inputs(...bytes), LIMITS, inputsMax).requests) {
          const sum = request.reduce((total, input) => total + input.bytes, 0);
          expect(request.length).toBeGreaterThanOrEqual(1);
          expect(request.length).toBeLessThanOrEqual(Math.min(inputsMax, LIMITS.requestInputsMax));
          expect(sum <= LIMITS.requestBytesMax || request.length === 1).toBe(true);
        }
      }),
    );
  });

  test('property: no two neighbouring requests would have fitted into one', () => {
    fc.assert(
      fc.property(sizes, (bytes) => {
        const { requests } = packRequests(inputs(...bytes), LIMITS);
        for (const [index, request] of requests.entries()) {
          const first = requests[index + 1]?.[0];
          if (first === undefined) continue;
          const sum = request.reduce((total, input) => total + input.bytes, 0);
          expect(
            request.length === LIMITS.requestInputsMax || sum + first.bytes > LIMITS.requestBytesMax,
          ).toBe(true);
        }
      }),
    );
  });
});

describe('uniqueInputs', () => {
  test('brings rows of the same text together, in the order in which the texts came', () => {
    const rows = [
      { rowId: '1', text: 'a', textHash: 'A', bytes: 1 },
      { rowId: '2', text: 'b', textHash: 'B', bytes: 1 },
      { rowId: '3', text: 'a', textHash: 'A', bytes: 1 },
    ];

    expect(uniqueInputs(rows)).toEqual([
      { text: 'a', textHash: 'A', bytes: 1, rowIds: ['1', '3'] },
      { text: 'b', textHash: 'B', bytes: 1, rowIds: ['2'] },
    ]);
  });

  test('property: every row is in exactly one input, under its own text, and no text comes twice', () => {
    const texts = fc.array(fc.constantFrom('a', 'b', 'c', 'd'), { maxLength: 40 });
    fc.assert(
      fc.property(texts, (list) => {
        const rows = list.map((text, index) => ({
          rowId: `${index}`,
          text,
          textHash: text.toUpperCase(),
          bytes: 1,
        }));
        const unique = uniqueInputs(rows);
        const textOf = new Map(
          unique.flatMap(({ text, rowIds }) => rowIds.map((rowId) => [rowId, text] as const)),
        );

        expect(new Set(unique.map((input) => input.textHash)).size).toBe(unique.length);
        expect(unique.flatMap((input) => input.rowIds)).toHaveLength(rows.length);
        for (const row of rows) expect(textOf.get(row.rowId)).toBe(row.text);
      }),
    );
  });
});

describe('inputsMaxForAttempt', () => {
  test('leaves requests alone for five attempts and halves them from the sixth on', () => {
    const attempts = Array.from({ length: 9 }, (_, index) => index + 1);

    expect(attempts.map((attempt) => inputsMaxForAttempt(attempt, 50))).toEqual([
      50, 50, 50, 50, 50, 25, 13, 7, 4,
    ]);
  });

  test('property: at least one input, never more than there are, never growing with the attempts', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2_048 }), fc.integer({ min: 1, max: 100 }), (count, attempt) => {
        const inputsMax = inputsMaxForAttempt(attempt, count);
        expect(inputsMax).toBeGreaterThanOrEqual(1);
        expect(inputsMax).toBeLessThanOrEqual(count);
        expect(inputsMaxForAttempt(attempt + 1, count)).toBeLessThanOrEqual(inputsMax);
      }),
    );
  });
});

test('the longest text that needs no counting leaves room for others in a request', () => {
  expect(OPENAI_LIMITS.requestBytesMax / OPENAI_LIMITS.inputBytesSafeMax).toBeGreaterThan(30);
});
