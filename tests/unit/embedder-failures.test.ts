import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import { EmbedError } from '../../src/core/failures.ts';
import { embedAll, type Reply, refuse, send, setupEmbedder as setup } from '../support/scripted-provider.ts';

describe('a refusal', () => {
  test('is named, retried by nobody here, and says how long to wait', async () => {
    const message =
      'Rate limit reached. Limit 1000000, Used 976163, Requested 70716. Please try again in 2.812s.';
    const headers = {
      'retry-after': '1',
      'x-ratelimit-remaining-tokens': '23837',
      'x-ratelimit-reset-tokens': '58s',
      'x-request-id': 'req_9',
    };
    const { seen, failure } = await setup(
      refuse(429, { message, type: 'tokens', code: 'rate_limit_exceeded' }, headers),
    );

    await expect(failure()).resolves.toMatchObject({
      code: 'rate_limited',
      verdict: 'snooze',
      retryAfterMs: 2_812,
      requestId: 'req_9',
      limits: { tokensRemaining: 23_837 },
    });
    expect(seen).toHaveLength(1);
  });

  const cases: readonly [string, Reply][] = [
    [
      'quota_exhausted',
      refuse(429, { type: 'insufficient_quota', message: 'You exceeded your current quota' }),
    ],
    ['quota_exhausted', refuse(402, { message: 'Payment required' })],
    [
      'request_too_large',
      refuse(429, { code: 'rate_limit_exceeded', message: 'Request too large for this model' }),
    ],
    ['request_too_large', refuse(413, '<html>413 Request Entity Too Large</html>')],
    [
      'request_too_large',
      refuse(400, { code: 'max_tokens_per_request', message: 'Requested 310000 tokens' }),
    ],
    [
      'key_invalid',
      refuse(401, { code: 'invalid_api_key', message: 'Incorrect API key provided: sk-te***cdef' }),
    ],
    ['key_forbidden', refuse(403, { message: 'Missing scopes: api.model.request' })],
    ['model_unavailable', refuse(404, { code: 'model_not_found', message: 'The model does not exist' })],
    ['endpoint_missing', refuse(404, '<html>404</html>')],
    ['request_invalid', refuse(400, { message: 'This model does not support specifying dimensions.' })],
    ['input_rejected', refuse(400, { message: "'$.input' is invalid." })],
    [
      'input_rejected',
      refuse(400, '{"object":"error","message":"maximum context length is 512 tokens","code":400}'),
    ],
    [
      'request_too_large',
      refuse(413, '{"error":"`inputs` must have less than 512 tokens.","error_type":"Validation"}'),
    ],
    ['provider_failed', refuse(500, { message: 'The server had an error' })],
    ['provider_failed', refuse(502, '<html>502 Bad Gateway</html>')],
    ['provider_failed', refuse(529, '')],
    ['provider_failed', refuse(408, '')],
    ['provider_failed', refuse(409, '')],
  ];

  test.each(cases)('is named: %s', async (code, reply) => {
    const { seen, failure } = await setup(reply);

    await expect(failure()).resolves.toMatchObject({ code });
    expect(seen).toHaveLength(1);
  });

  test("of a status that nobody planned for looks like a bug, without the provider's words", async () => {
    const { embed } = await setup(refuse(418, { message: 'first is a teapot' }));

    const error: unknown = await embed().catch((thrown: unknown) => thrown);

    expect(error).toBeInstanceOf(Error);
    expect(error).not.toBeInstanceOf(EmbedError);
    expect(inspect(error)).not.toContain('teapot');
  });
});

describe('an answer that is none', () => {
  const vectors = [0, 1].map((index) => ({ index, embedding: [1, 2, 3, 4] }));
  const cases: readonly [string, Reply][] = [
    [
      'answer_malformed',
      (response) => send(response, 200, '<html>ok</html>', { 'content-type': 'text/html' }),
    ],
    ['answer_malformed', (response) => send(response, 200, '<html>ok</html>')],
    ['answer_malformed', (response) => send(response, 200, '')],
    ['answer_malformed', (response) => void response.writeHead(204).end()],
    ['answer_malformed', (response) => send(response, 200, '{"data":[{"index":0,"embedding":[NaN,1,2,3]}]}')],
    ['answer_malformed', (response) => send(response, 200, '{"data":[{"index":0,"embed')],
    ['answer_malformed', (response) => send(response, 200, { error: { message: 'something happened' } })],
    ['rate_limited', (response) => send(response, 200, { error: { message: 'slow', code: 429 } })],
    [
      'quota_exhausted',
      (response) =>
        send(response, 200, { error: { message: 'no', code: 'insufficient_quota' }, data: vectors }),
    ],
    [
      'provider_failed',
      (response) => send(response, 200, { error: { message: 'no', type: 'server_error' } }),
    ],
    ['answer_wrong_count', (response) => send(response, 200, { data: vectors.slice(1) })],
    [
      'answer_wrong_count',
      (response) => send(response, 200, { data: [...vectors, { index: 2, embedding: [1, 2, 3, 4] }] }),
    ],
    ['answer_duplicate_index', (response) => send(response, 200, { data: [vectors[0], vectors[0]] })],
    [
      'answer_wrong_dimensions',
      (response) => send(response, 200, { data: vectors.map((item) => ({ ...item, embedding: [1] })) }),
    ],
    [
      'answer_all_zero',
      (response) =>
        send(response, 200, { data: vectors.map((item) => ({ ...item, embedding: [0, 0, 0, 0] })) }),
    ],
  ];

  test.each(cases)('is named: %s', async (code, reply) => {
    const { failure } = await setup(reply);

    await expect(failure()).resolves.toMatchObject({ code });
  });

  test('says what the limits were all the same', async () => {
    const { failure } = await setup((response) =>
      send(response, 200, { data: [] }, { 'x-request-id': 'req_7', 'x-ratelimit-limit-tokens': '5000' }),
    );

    await expect(failure()).resolves.toMatchObject({
      requestId: 'req_7',
      status: 200,
      limits: { tokensLimit: 5_000 },
    });
  });
});

describe('a connection', () => {
  test('that breaks before or during the answer is named', async () => {
    const breaks: Reply[] = [
      (response) => response.socket?.resetAndDestroy(),
      (response) => response.socket?.destroy(),
      (response) => {
        response.writeHead(200, { 'content-type': 'application/json', 'content-length': '1000' });
        response.write('{"data":', () => response.socket?.destroy());
      },
      (response) => {
        response.writeHead(200, { 'content-type': 'application/json' });
        response.write('{"data":', () => response.socket?.resetAndDestroy());
      },
      (response) => void response.socket?.end('no HTTP at all\r\n\r\n'),
    ];
    for (const reply of breaks) {
      const { failure } = await setup(reply);
      await expect(failure()).resolves.toMatchObject({ code: 'connection_failed', verdict: 'retry' });
    }
  });

  test("that nobody takes, or to a host that is not there, is named with the system's code", async () => {
    const { failure } = await setup(embedAll);

    await expect(failure({}, { baseUrl: await closedPort() })).resolves.toMatchObject({
      code: 'connection_failed',
      providerCode: 'ECONNREFUSED',
    });
    await expect(failure({}, { baseUrl: 'http://nowhere.invalid/v1' })).resolves.toMatchObject({
      code: 'connection_failed',
    });
  });

  test('that is silent before, during or after the head of an answer times out', async () => {
    const silences: Reply[] = [
      () => {},
      (response) => void response.writeHead(200, { 'content-type': 'application/json' }).write('{"data":'),
      (response) => void response.writeHead(200, { 'content-type': 'application/json' }).flushHeaders(),
    ];
    for (const reply of silences) {
      const { failure } = await setup(reply, { timeoutMs: 100 });
      await expect(failure()).resolves.toMatchObject({ code: 'timed_out', verdict: 'retry' });
    }
  });

  test("that stops in the middle of an error's body has the error's name", async () => {
    const { failure } = await setup(
      (response) => void response.writeHead(503, { 'content-type': 'application/json' }).write('{"error":'),
      { timeoutMs: 100 },
    );

    await expect(failure()).resolves.toMatchObject({ code: 'provider_failed', status: 503 });
  });

  test('is one of few, however many keys are at work', async () => {
    const waiting: (() => void)[] = [];
    const { sockets, seen, embed } = await setup(
      (response, request) => {
        waiting.push(() => embedAll(response, request));
        if (waiting.length === 3) for (const answer of waiting.splice(0)) answer();
      },
      { connectionsMax: 3 },
    );

    const keys = Array.from({ length: 30 }, (_, index) => `sk-tenant-${index}`);
    await Promise.all(keys.map((apiKey) => embed({}, { apiKey, fingerprint: apiKey })));

    expect(seen).toHaveLength(30);
    expect(sockets.size).toBe(3);
  });
});

/** A base URL at which nobody listens any more. */
async function closedPort(): Promise<string> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return `http://127.0.0.1:${port}/v1`;
}
