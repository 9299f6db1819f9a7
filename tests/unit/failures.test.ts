import { describe, expect, test } from 'vitest';
import { classifyResponse, type Refusal } from '../../src/core/classify-response.ts';
import {
  EmbedError,
  FAILURES,
  type FailureCode,
  PROVIDER_MESSAGE_LENGTH_MAX,
  quarantineCode,
} from '../../src/core/failures.ts';

type Case = readonly [expected: FailureCode, refusal: Refusal];

function classifiesAll(cases: readonly Case[]): void {
  for (const [expected, refusal] of cases)
    expect(classifyResponse(refusal), JSON.stringify(refusal)).toBe(expected);
}

describe('a 429', () => {
  test('is a wait, whether the provider names it or not', () => {
    classifiesAll([
      ['rate_limited', { status: 429 }],
      ['rate_limited', { status: 429, code: 'rate_limit_exceeded', type: 'requests' }],
      [
        'rate_limited',
        { status: 429, code: null, type: 'tokens', message: 'Limit 1000000, Used 976163, Requested 70716.' },
      ],
      ['rate_limited', { status: 429, message: 'Model is overloaded' }],
      ['rate_limited', { status: 503, code: 'slow_down' }],
      ['rate_limited', { status: 503, type: 'slow_down' }],
    ]);
  });

  test('that no waiting ends is an exhausted quota, in code or type', () => {
    classifiesAll([
      ['quota_exhausted', { status: 429, code: 'insufficient_quota' }],
      ['quota_exhausted', { status: 429, code: null, type: 'insufficient_quota' }],
      ['quota_exhausted', { status: 429, code: 'credit_balance_exhausted', type: 'rate_limit_exceeded' }],
      ['quota_exhausted', { status: 429, code: 'project_spend_limit_exceeded' }],
      ['quota_exhausted', { status: 429, type: 'monthly_usage_limit_exceeded' }],
      ['quota_exhausted', { status: 402 }],
    ]);
  });

  test('"Request too large" asks for smaller requests, whatever its code', () => {
    const message = 'Request too large for text-embedding-3-small: Limit 40000, Requested 70000.';
    classifiesAll([
      ['request_too_large', { status: 429, message }],
      ['request_too_large', { status: 429, code: 'rate_limit_exceeded', type: 'tokens', message }],
    ]);
  });
});

describe('a 400', () => {
  test('about the size of the request asks for smaller requests', () => {
    classifiesAll([
      ['request_too_large', { status: 400, code: 'max_tokens_per_request', type: 'max_tokens_per_request' }],
      [
        'request_too_large',
        { status: 400, message: 'Requested 673477 tokens, max 300000 tokens per request' },
      ],
      ['request_too_large', { status: 400, code: 'array_above_max_length', param: 'input' }],
      [
        'request_too_large',
        { status: 400, message: 'Value error, batch size is invalid, it should not be larger than 10.' },
      ],
      ['request_too_large', { status: 413 }],
    ]);
  });

  test("about what an input holds is the input's fault", () => {
    const type = 'invalid_request_error';
    classifiesAll([
      [
        'input_rejected',
        { status: 400, type, message: "'$.input' is invalid. Please check the API reference." },
      ],
      [
        'input_rejected',
        {
          status: 400,
          type,
          message: "This model's maximum context length is 8192 tokens, however you requested 9000 tokens.",
        },
      ],
      [
        'input_rejected',
        { status: 400, type, param: '', message: "Invalid 'input': maximum context length is 8192 tokens." },
      ],
      [
        'input_rejected',
        { status: 400, type, message: "Invalid 'input[3]': input cannot be an empty string." },
      ],
      ['input_rejected', { status: 400, type, param: 'input', message: 'refused' }],
      ['input_rejected', { status: 400, type, param: 'input[12]', message: 'refused' }],
      ['input_rejected', { status: 400, code: 'context_length_exceeded', message: 'no' }],
      ['input_rejected', { status: 400, code: '400', message: 'prefill 744 tokens exceed n_ctx_per_seq' }],
      ['input_rejected', { status: 422, message: 'Tokenization error' }],
      [
        'input_rejected',
        { status: 422, message: '[{"loc":["body","input",3],"msg":"Input should be a valid string"}]' },
      ],
    ]);
  });

  test('about how we ask is our fault, and no row is blamed', () => {
    const type = 'invalid_request_error';
    classifiesAll([
      [
        'request_invalid',
        { status: 400, type, message: 'This model does not support specifying dimensions.' },
      ],
      [
        'request_invalid',
        { status: 400, type, message: "Invalid value for 'dimensions' = 5000. Must be at most 1536." },
      ],
      [
        'request_invalid',
        { status: 400, type, param: 'dimensions', message: 'Input should be a valid integer' },
      ],
      [
        'request_invalid',
        { status: 422, message: '{"loc":["body","dimensions"],"msg":"Input should be a valid integer"}' },
      ],
      ['request_invalid', { status: 400, type, message: 'Unrecognized request argument supplied: foo' }],
      ['request_invalid', { status: 400, type, code: 'unknown_parameter', param: 'foo' }],
      ['request_invalid', { status: 400, type, message: 'you must provide a model parameter' }],
      ['request_invalid', { status: 400, message: 'Bad Request' }],
      ['request_invalid', { status: 400 }],
    ]);
  });
});

describe('a 400 that quotes an input', () => {
  test.each([
    ['API key', 'Invalid input: "How do I rotate my API key?"', 'Invalid input: "[text]"'],
    ['dimensions', 'Invalid input: "the dimensions of the crate"', 'Invalid input: "[text]"'],
    ['unknown field', 'Invalid input: "an unknown field in the form"', 'Invalid input: "[text]"'],
    ['input', 'Cannot process "the input of the committee"', 'Cannot process "[text]"'],
    ['a provider’s own words', "This model's maximum context length is 8192 tokens.", '[text] is 8192.'],
    ['nothing but a word of the provider’s', "'$.input' is invalid.", "'$.[text]' is invalid."],
  ])('is about the input, and not what the input says: %s', (_name, message, messageWithoutInputs) => {
    for (const status of [400, 422])
      classifiesAll([['input_rejected', { status, message, messageWithoutInputs }]]);
  });

  test('is about what it says outside of the quotation, if that says the same', () => {
    const without = (message: string) => ({
      status: 400,
      message: `${message}: "x"`,
      messageWithoutInputs: message,
    });
    classifiesAll([
      ['request_invalid', without('Unknown parameter "dimensions"')],
      ['key_invalid', without('API key not valid')],
      ['request_too_large', without('Request too large')],
    ]);
  });
});

describe('any other answer', () => {
  test('stops the tenant when its key is at fault', () => {
    classifiesAll([
      ['key_invalid', { status: 401, code: 'invalid_api_key' }],
      ['key_invalid', { status: 401 }],
      ['key_invalid', { status: 400, message: 'API key not valid. Please pass a valid API key.' }],
      ['key_forbidden', { status: 403 }],
      ['key_forbidden', { status: 403, code: 'unsupported_country_region_territory' }],
      ['key_forbidden', { status: 401, code: 'ip_not_authorized' }],
    ]);
  });

  test('tells a missing model from a missing endpoint', () => {
    classifiesAll([
      ['model_unavailable', { status: 404, code: 'model_not_found' }],
      ['model_unavailable', { status: 403, code: 'model_not_found' }],
      ['model_unavailable', { status: 404, message: 'model "nomic" not found, try pulling it first' }],
      ['model_unavailable', { status: 400, param: 'model', message: 'The model `x` does not exist' }],
      ['endpoint_missing', { status: 404, message: '<html>404</html>' }],
      ['endpoint_missing', { status: 405 }],
    ]);
  });

  test('passes when the provider or a proxy before it is at fault', () => {
    for (const status of [408, 409, 424, 500, 502, 503, 504, 520, 529])
      classifiesAll([['provider_failed', { status }]]);
    classifiesAll([
      ['provider_failed', { status: 502, message: '<html><h1>502 Bad Gateway</h1></html>' }],
      ['provider_failed', { status: 403, message: '<!DOCTYPE html><title>Just a moment…</title>' }],
      ['provider_failed', { status: 400, message: '<html>400</html>' }],
      ['provider_failed', { status: 200, type: 'server_error' }],
    ]);
  });

  test('that redirects is not followed', () => {
    for (const status of [301, 302, 303, 307, 308]) classifiesAll([['redirected', { status }]]);
  });

  test('that nobody planned for has no name, so that it crashes', () => {
    for (const status of [200, 204, 418, 451]) expect(classifyResponse({ status })).toBeUndefined();
  });
});

describe('EmbedError', () => {
  test('has the verdict of its code', () => {
    for (const code of Object.keys(FAILURES) as FailureCode[]) {
      expect(new EmbedError(code).verdict).toBe(FAILURES[code].verdict);
    }
  });

  test('holds no key, whole or half masked by the provider', () => {
    const error = new EmbedError('key_invalid', {
      providerMessage:
        'Incorrect API key provided: sk-proj-abc123_DEF. Was: sk-ab***9z, ab12****9z; Bearer abcdef',
    });

    expect(error.providerMessage).toBe('Incorrect API key provided: sk-***. Was: *** *** Bearer ***');
    expect(JSON.stringify({ ...error, message: error.message, stack: error.stack })).not.toMatch(
      /abc|ab12|9z/,
    );
  });

  test("cuts the provider's message and has no cause", () => {
    const error = new EmbedError('provider_failed', { providerMessage: 'x'.repeat(10_000) });

    expect(error.providerMessage).toHaveLength(PROVIDER_MESSAGE_LENGTH_MAX);
    expect(error.cause).toBeUndefined();
  });
});

test('an input that is too large a request by itself is quarantined as too long', () => {
  expect(quarantineCode('request_too_large')).toBe('input_too_long');
  expect(quarantineCode('input_rejected')).toBe('input_rejected');
});
