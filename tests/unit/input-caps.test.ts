import { describe, expect, test } from 'vitest';
import { statedInputsMax } from '../../src/core/input-caps.ts';

describe('the number of inputs that a refusal names', () => {
  test.each([
    [32, 'batch size 64 > maximum allowed batch size 32'],
    [
      2_048,
      "Invalid 'input': array too long. Expected an array with maximum length 2048, but got an array with length 3000 instead.",
    ],
    [100, '* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch'],
    [96, 'invalid request: total number of texts must be at most 96 - received 128'],
    [
      10,
      '<400> InternalError.Algo.InvalidParameter: Value error, batch size is invalid, it should not be larger than 10.: input.contents',
    ],
    [128, 'The batch size limit is 128. Your batch size is 200.'],
    [1_000, 'Input list length must be ≤ 1000 items'],
    [512, 'Too many inputs in request. Max is 512'],
    [
      1,
      'Too many inputs. The max number of inputs is 1. We hope to increase the number of inputs per request soon.',
    ],
    [16, 'Too many inputs. The max number of inputs is 16.'],
    [96, 'List should have at most 96 items after validation, not 128'],
    [250, '250 instance(s) is allowed per prediction. Actual: 300.'],
    [64, 'The number of input must not be more than 64'],
    [1, 'Only one input is supported'],
    [1, 'This model does not support batch requests'],
  ])('is %i in %j', (max, message) => {
    expect(statedInputsMax(message, 4_000)).toBe(max);
  });

  test.each([
    ["This model's maximum context length is 512 tokens, however you requested 900 tokens"],
    ['Requested 3000 tokens, max 2000 tokens per request of inputs'],
    ['inputs are limited to 500 characters'],
    ['The parameter is invalid. Please check again.'],
    ['Invalid input'],
    ['dimensions must be at most 1024'],
    [''],
  ])('is none in %j', (message) => {
    expect(statedInputsMax(message, 4_000)).toBeUndefined();
  });

  test('is none when the request kept it, or had one input', () => {
    expect(statedInputsMax('at most 100 inputs', 100)).toBeUndefined();
    expect(statedInputsMax('at most 1 inputs', 1)).toBeUndefined();
    expect(statedInputsMax(undefined, 10)).toBeUndefined();
  });
});
