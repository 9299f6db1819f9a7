/** Where a refusal's words stand, and whose they are. */
import { describe, expect, test } from 'vitest';
import { send, setupEmbedder as setup } from './support/scripted-provider.ts';

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
