import OpenAI, { AuthenticationError, RateLimitError } from 'openai';
import { afterEach, describe, expect, test } from 'vitest';
import { spawnOpenAiServer } from '../../dev/openai-server/control-client.ts';
import { hashEmbedding } from '../../dev/openai-server/encoders.ts';
import {
  type OpenAiServer,
  type OpenAiServerOptions,
  startOpenAiServer,
} from '../../dev/openai-server/server.ts';
import { estimateTokens, loadExactTokens } from '../../dev/openai-server/tokens.ts';

const MODEL = 'text-embedding-3-small';
const KEY = 'sk-test-aaaaaaaaaaaaaaaaaaaaaaaaaaaa1234';

const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const server of opened.splice(0)) await server.close();
});

async function setup(options: OpenAiServerOptions = {}) {
  const server = await startOpenAiServer({ keys: [{ key: KEY, organization: 'org-acme' }], ...options });
  opened.push(server);
  return { server, post: (body: unknown, key: string | null = KEY) => post(server, body, key) };
}

type Body = { data: Item[]; error: { message: string } };
// Numbers, or a string where a test asks for base64: `floatsOf` reads that.
type Item = { index: number; embedding: number[] };

async function post(server: OpenAiServer, body: unknown, key: string | null) {
  const response = await fetch(`${server.url}/embeddings`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(key !== null && { authorization: `Bearer ${key}` }) },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
  return { status: response.status, headers: response.headers, body: (await response.json()) as Body };
}

function floatsOf({ data }: Body): number[] {
  const bytes = Buffer.from(String(data[0]?.embedding), 'base64');
  return Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(i * 4));
}

describe('an answer', () => {
  test('holds one vector a text in order, the usage and the headers of OpenAI', async () => {
    const { post } = await setup();

    const { status, headers, body } = await post({ model: MODEL, input: ['one', 'two'] });

    expect(status).toBe(200);
    expect(body).toMatchObject({
      object: 'list',
      model: MODEL,
      usage: { prompt_tokens: 2, total_tokens: 2 },
    });
    expect(body.data.map(({ index }) => index)).toEqual([0, 1]);
    expect(body.data[1]).toMatchObject({ object: 'embedding' });
    expect(body.data[1]?.embedding).toEqual([...hashEmbedding('two', MODEL, 1536)]);
    expect(headers.get('x-request-id')).toMatch(/^req_/);
    expect(headers.get('openai-organization')).toBe('org-acme');
    expect(headers.get('openai-model')).toBe(MODEL);
    expect(headers.get('openai-processing-ms')).toMatch(/^\d+$/);
    expect(headers.get('x-ratelimit-limit-requests')).toBeNull();
  });

  test('in base64 holds the same numbers as little-endian floats', async () => {
    const { post } = await setup();
    const request = { model: MODEL, input: 'one', dimensions: 512 };

    const plain = await post(request);
    const base64 = await post({ ...request, encoding_format: 'base64' });

    expect(floatsOf(base64.body)).toEqual(plain.body.data[0]?.embedding);
    expect(plain.body.data[0]?.embedding).toHaveLength(512);
  });

  test('has the dimensions of its model when none are asked for', async () => {
    const { post } = await setup();

    const large = await post({ model: 'text-embedding-3-large', input: 'one' });

    expect(large.body.data[0]?.embedding).toHaveLength(3072);
  });

  test('is the same through the SDK, whichever way it asks', async () => {
    const { server } = await setup();
    const client = new OpenAI({ apiKey: KEY, baseURL: server.url, maxRetries: 0 });

    const plain = await client.embeddings.create({
      model: MODEL,
      input: ['one', 'two'],
      encoding_format: 'float',
    });
    const byDefault = await client.embeddings.create({ model: MODEL, input: ['one', 'two'] });

    expect(byDefault.data).toEqual(plain.data);
    expect(byDefault.data[0]?.embedding).toEqual([...hashEmbedding('one', MODEL, 1536)]);
  });

  test('with an error is the class of error that the SDK has for it', async () => {
    const { server } = await setup({ keys: [{ key: KEY, state: 'quota_exhausted' }] });
    const call = (apiKey: string) =>
      new OpenAI({ apiKey, baseURL: server.url, maxRetries: 0 }).embeddings.create({
        model: MODEL,
        input: 'one',
      });

    await expect(call('sk-unknown')).rejects.toBeInstanceOf(AuthenticationError);
    await expect(call(KEY)).rejects.toBeInstanceOf(RateLimitError);
    await expect(call(KEY)).rejects.toMatchObject({ code: 'insufficient_quota', type: 'insufficient_quota' });
  });

  test('lists the models to a known key', async () => {
    const { server } = await setup();
    const client = new OpenAI({ apiKey: KEY, baseURL: server.url, maxRetries: 0 });

    const models = await client.models.list();

    expect(models.data.map(({ id }) => id)).toContain(MODEL);
  });
});

type Refusal = { status: number; message?: RegExp; code?: string | null; type?: string; param?: string };

describe('a request is refused', () => {
  test.each([
    [
      'an empty text',
      { input: ['one', ''] },
      { status: 400, message: /^'\$\.input' is invalid/, code: null },
    ],
    ['no text', { input: [] }, { status: 400, message: /^'\$\.input' is invalid/ }],
    [
      'tokens in place of texts',
      { input: [[1, 2]] },
      { status: 400, message: /arrays of tokens/, param: 'input' },
    ],
    ['2,049 texts', { input: Array(2049).fill('one') }, { status: 400, code: 'array_above_max_length' }],
    [
      '8,193 tokens in a text',
      { input: 'a'.repeat(32_769) },
      { status: 400, message: /maximum context length is 8192 tokens/ },
    ],
    [
      '300,001 tokens in all',
      { input: [...Array(37).fill('a'.repeat(32_000)), 'a'.repeat(16_001)] },
      { status: 400, code: 'max_tokens_per_request', type: 'max_tokens_per_request' },
    ],
    ['too many dimensions', { dimensions: 1537 }, { status: 400, message: /'dimensions' = 1537/ }],
    ['no dimensions', { dimensions: 0 }, { status: 400, message: /'dimensions' = 0/ }],
    ['half a dimension', { dimensions: 1.5 }, { status: 400, param: 'dimensions' }],
    [
      'dimensions for ada',
      { model: 'text-embedding-ada-002', dimensions: 512 },
      { status: 400, message: /does not support/ },
    ],
    ['an unknown model', { model: 'text-embedding-9' }, { status: 404, code: 'model_not_found' }],
    ['an unknown parameter', { batch: 7 }, { status: 400, code: 'unknown_parameter', param: 'batch' }],
    ['an unknown format', { encoding_format: 'hex' }, { status: 400, param: 'encoding_format' }],
  ] as [string, object, Refusal][])('for %s', async (_what, fields, { status, message = /./, ...error }) => {
    const { server, post } = await setup();

    const answered = await post({ model: MODEL, input: 'one', ...fields });

    expect(answered.status).toBe(status);
    expect(answered.body.error).toMatchObject(error);
    expect(answered.body.error.message).toMatch(message);
    expect(server.ledger.summary()).toMatchObject({ calls: 1, billedCalls: 0 });
  });

  test('for a body that is no JSON, and on a path that is none', async () => {
    const { server, post } = await setup();

    expect((await post('{"model":')).status).toBe(400);
    expect((await fetch(`${server.url}/completions`)).status).toBe(404);
  });

  test('as a whole for one text that holds a poison', async () => {
    const { server, post } = await setup({ poison: [{ marker: '☠' }] });
    const request = { model: MODEL, input: ['good', 'bad ☠'] };

    expect(await post(request)).toMatchObject({ status: 400, body: { error: { code: null } } });
    server.setPoison([{ marker: '☠', status: 403, code: 'content_policy' }]);
    expect(await post(request)).toMatchObject({ status: 403, body: { error: { code: 'content_policy' } } });
    server.setPoison([]);
    expect(await post(request)).toMatchObject({ status: 200 });
  });
});

describe('the ledger', () => {
  test('tells which key sent which text, what was paid for, and how many calls were served at once', async () => {
    const { server, post } = await setup({ acceptAnyKey: true, latency: { fixedMs: 30 } });

    await Promise.all([
      post({ model: MODEL, input: ['one', 'two'] }, 'key-a'),
      post({ model: MODEL, input: ['two'] }, 'key-b'),
    ]);
    await post({ model: MODEL, input: ['two', ''] }, 'key-b');

    const { ledger } = server;
    expect(ledger.textsSentWith('key-a')).toEqual(new Set(['one', 'two']));
    expect(ledger.callsBy('key-b').map(({ status }) => status)).toEqual([200, 400]);
    expect([ledger.countOf('two'), ledger.billedCountOf('two')]).toEqual([3, 2]);
    expect(ledger.keysByText().get('two')).toEqual(new Set(['key-a', 'key-b']));
    expect(ledger.summary()).toMatchObject({
      calls: 3,
      billedInputs: 3,
      billedDistinct: 3,
      inFlight: 0,
      inFlightMax: 2,
    });
    ledger.reset();
    expect(ledger.entries).toEqual([]);
  });

  test('keeps the organisation and project that a client sent, and hashes in place of texts when told to', async () => {
    const { server } = await setup({ ledgerTexts: false });
    const client = new OpenAI({ apiKey: KEY, baseURL: server.url, organization: 'org-acme', project: 'p1' });

    await client.embeddings.create({ model: MODEL, input: 'a secret text' });

    expect(server.ledger.entries[0]).toMatchObject({ sentOrganization: 'org-acme', sentProject: 'p1' });
    expect(JSON.stringify(server.ledger.entries)).not.toContain('secret');
    expect(server.ledger.countOf('a secret text')).toBe(1);
  });
});

describe('encoders and tokens', () => {
  test('hash gives unit vectors that differ with text, model and dimensions', () => {
    const vectors = ['', 'a', 'b', 'ab', 'ba'].map((text) => hashEmbedding(text, MODEL, 64));
    const all = [...vectors, hashEmbedding('a', 'text-embedding-3-large', 64), hashEmbedding('a', MODEL, 63)];

    for (const vector of all) expect(Math.hypot(...vector)).toBeCloseTo(1, 5);
    expect(new Set(all.map(String)).size).toBe(all.length);
  });

  test('use puts sentences of one meaning together, in 512 dimensions', async () => {
    const { post } = await setup({ encoder: 'use' });
    const input = [
      'How do I reset my password?',
      'The user forgot login credentials',
      'Best pizza in Naples',
    ];

    const { body } = await post({ model: MODEL, input });
    const tooMany = await post({ model: MODEL, input, dimensions: 1536 });

    const [reset = [], forgot = [], pizza = []] = body.data.map(({ embedding }) => embedding);
    const dot = (a: number[], b: number[]) => a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0);
    expect(reset).toHaveLength(512);
    expect(dot(reset, forgot)).toBeGreaterThan(0.3);
    expect(dot(reset, pizza)).toBeLessThan(0.2);
    expect(tooMany.status).toBe(400);
  }, 30_000);

  test('tokens are estimated near the tokeniser and never above the bytes', async () => {
    const exact = await loadExactTokens();
    const english = 'The nightly export failed because the credentials of the connector had expired. '.repeat(
      20,
    );

    expect(estimateTokens(english) / exact(english)).toBeGreaterThan(0.8);
    expect(estimateTokens(english) / exact(english)).toBeLessThan(1.6);
    expect(exact('<|im_start|>')).toBeGreaterThan(1);
    for (const text of ['x', 'é', '日本', '🙂', english]) {
      expect(estimateTokens(text)).toBeLessThanOrEqual(Buffer.byteLength(text));
    }
  });
});

test('a process of its own is steered from outside and stops when told', async () => {
  const server = await spawnOpenAiServer({ keys: [{ key: 'key-a' }] });
  const { control, url } = server;
  const call = (key: string) => post({ url } as OpenAiServer, { model: MODEL, input: 'one' }, key);
  opened.push({ close: server.stop });

  expect((await call('key-b')).status).toBe(401);
  await control.putKey({ key: 'key-b', organization: 'org-b', requestsPerMinute: 1 });
  expect((await call('key-b')).status).toBe(200);
  expect((await call('key-b')).status).toBe(429);
  await control.addFault({ times: 1, action: { kind: 'status', status: 500 } });
  expect((await call('key-a')).status).toBe(500);
  await control.setOutage('refuse');
  await expect(call('key-a')).rejects.toThrow('fetch failed');
  await control.setOutage('off');
  expect((await call('key-a')).status).toBe(200);

  expect((await control.ledger('key-b')).map(({ status }) => status)).toEqual([401, 200, 429]);
  expect(await control.status()).toMatchObject({ calls: 5, billedTokens: 2 });
  await expect(control.setKeyState('key-a', 'lost' as 'ok')).rejects.toThrow('Invalid option');
  await control.resetLedger();
  expect(await control.ledger()).toEqual([]);
  await server.stop();
  await expect(call('key-a')).rejects.toThrow('fetch failed');
}, 30_000);
