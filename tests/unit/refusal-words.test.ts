/** Where a refusal's words stand, and whose they are. */
import { describe, expect, test } from 'vitest';
import { refuse, send, setupEmbedder as setup } from '../support/scripted-provider.ts';

describe('the reason for a refusal', () => {
  const TOO_LONG = 'maximum context length is 512 tokens';

  test.each([
    ['OpenAI', { error: { message: TOO_LONG, type: 'invalid_request_error', param: null, code: null } }],
    ['older vLLM', { object: 'error', message: TOO_LONG, type: 'BadRequestError', code: 400 }],
    ['FastAPI', { detail: TOO_LONG }],
    ['FastAPI with an object', { detail: { error: TOO_LONG } }],
    ['Azure API Management', { statusCode: 400, message: TOO_LONG }],
    ['Fastify', { statusCode: 400, error: 'Bad Request', message: TOO_LONG }],
    ['a gateway without an error', { error: null, message: TOO_LONG }],
    ['a gateway with a flag', { error: true, message: TOO_LONG }],
    ['Ollama', { error: TOO_LONG }],
    ['a bare string', JSON.stringify(TOO_LONG)],
    ['no JSON', TOO_LONG],
  ])('is found where %s has it', async (_server, body) => {
    const { failure } = await setup((response) => send(response, 400, body));

    await expect(failure()).resolves.toMatchObject({
      code: 'input_rejected',
      providerMessage: expect.stringContaining(TOO_LONG),
    });
  });

  test.each([
    [
      'input_rejected',
      422,
      { detail: [{ loc: ['body', 'input', 3], msg: 'String should have a character' }] },
    ],
    [
      'request_invalid',
      422,
      { detail: [{ loc: ['body', 'dimensions'], msg: 'Extra values are forbidden' }] },
    ],
    ['model_unavailable', 404, { object: 'error', message: 'The model `m` does not exist.', code: 404 }],
    ['model_unavailable', 404, { detail: 'Model not found' }],
    ['endpoint_missing', 404, { detail: 'Not Found' }],
  ])('is found without an error object: %s', async (code, status, body) => {
    const { failure } = await setup((response) => send(response, status, body));

    await expect(failure()).resolves.toMatchObject({ code });
  });

  test.each([
    [
      'Azure API Management',
      { statusCode: 429, message: 'Rate limit is exceeded. Try again in 26 seconds.' },
    ],
    ['FastAPI', { detail: 'Too many requests, try again in 26 seconds.' }],
    ['Fastify', { statusCode: 429, error: 'Too Many Requests', message: 'Too fast, retry in 26 seconds.' }],
  ])('says how long to wait in the words of %s', async (_server, body) => {
    const { failure } = await setup((response) => send(response, 429, body));

    await expect(failure({ texts: ['a note', 'a letter'] })).resolves.toMatchObject({
      code: 'rate_limited',
      retryAfterMs: 26_000,
      providerMessage: expect.stringMatching(/in 26 seconds\.$/),
    });
  });
});

describe('a refusal that quotes a row is about that row, and not about what it says', () => {
  test.each([
    ['says "API key"', 'How do I rotate my API key?', (text: string) => `Invalid input: "${text}"`],
    [
      'says "dimension"',
      'dimension of the room',
      (text: string) => `Invalid input: '${text.slice(0, 12)}...'`,
    ],
    [
      'is quoted as JSON',
      'Zoë: an "unknown field" is dropped',
      (text: string) => `Invalid input: ${JSON.stringify(text).replace('ë', String.raw`\u00eb`)}`,
    ],
    [
      'has words in common with the reason',
      "What is this model's maximum context length?",
      () => "this model's maximum context length is 512 tokens",
    ],
    ['is a word of the reason', 'input', () => "'$.input' is invalid."],
  ])('the row %s', async (_what, text, messageOf) => {
    const { failure } = await setup(refuse(400, { message: messageOf(text) }));

    await expect(failure({ texts: [text, 'second'] })).resolves.toMatchObject({
      code: 'input_rejected',
      providerMessage: expect.stringContaining('[text]'),
    });
  });

  test('but a proxy’s page is nobody’s word on a row, also on one that begins as the page does', async () => {
    const page = '<!DOCTYPE html>\n<html><head><title>Error 400 (Bad Request)</title></head></html>';
    const { failure } = await setup((response) => send(response, 400, page));

    const texts = [
      '<!DOCTYPE html>\n<html><head><title>Our spring catalogue</title></head></html>',
      'second',
    ];
    await expect(failure({ texts })).resolves.toMatchObject({ code: 'provider_failed' });
  });

  test('also where the status is 200', async () => {
    const text = 'Where is my API key?';
    const { failure } = await setup((response) =>
      send(response, 200, { error: { code: 400, message: `Invalid input: "${text}"` } }),
    );

    await expect(failure({ texts: [text, 'second'] })).resolves.toMatchObject({ code: 'input_rejected' });
  });
});
