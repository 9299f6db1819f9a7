import { createServer } from 'node:http';
import { afterEach, describe, expect, test } from 'vitest';
import { hashEmbedding } from '../../dev/openai-server/encoders.ts';
import type { Fault } from '../../dev/openai-server/faults.ts';
import { type OpenAiServer, startOpenAiServer } from '../../dev/openai-server/server.ts';

const MODEL = 'text-embedding-3-small';
const opened: OpenAiServer[] = [];
afterEach(async () => {
  for (const server of opened.splice(0)) await server.close();
});

type Item = { index: number; embedding: (number | null)[] };

async function setup(...faults: Fault[]) {
  const server = await startOpenAiServer({ acceptAnyKey: true, faults });
  opened.push(server);

  function request(input: string[] = ['one', 'two', 'three'], init: RequestInit = {}, format = 'float') {
    return fetch(`${server.url}/embeddings`, {
      method: 'POST',
      headers: { authorization: 'Bearer k' },
      body: JSON.stringify({ model: MODEL, input, dimensions: 8, encoding_format: format }),
      ...init,
    });
  }
  async function items(): Promise<Item[]> {
    return ((await (await request()).json()) as { data: Item[] }).data;
  }
  async function statuses(...inputs: string[]) {
    const answers: number[] = [];
    for (const input of inputs) answers.push((await request([input])).status);
    return answers;
  }
  return { server, request, items, statuses };
}

const failure = { kind: 'status', status: 500 } as const;

describe('a fault strikes', () => {
  test('by call number', async () => {
    const { statuses } = await setup(
      { when: { calls: [2] }, action: failure },
      { when: { fromCall: 4 }, action: failure },
    );

    expect(await statuses('a', 'b', 'c', 'd', 'e')).toEqual([200, 500, 200, 500, 500]);
  });

  test('the next so many times, by key and by text', async () => {
    const { server, statuses } = await setup(
      { when: { key: 'other' }, action: failure },
      { times: 1, when: { textIncludes: 'bad' }, action: { kind: 'status', status: 503 } },
      { when: { textMatches: (text) => text.length > 5 }, action: failure },
    );

    expect(await statuses('bad', 'bad', 'longer', 'good')).toEqual([503, 200, 500, 200]);
    expect(server.faults.list().map(({ struck, left }) => [struck, left])).toEqual([
      [0, null],
      [1, 0],
      [1, null],
    ]);
    server.faults.clear();
    expect(await statuses('longer')).toEqual([200]);
  });

  test('by chance, and with the same seed the same calls', async () => {
    const texts = Array.from({ length: 40 }, (_, i) => `text ${i}`);
    const fault: Fault = { when: { probability: 0.3, seed: 7 }, action: failure };
    const [one, other] = [await setup(fault), await setup(fault)];

    const struck = await one.statuses(...texts);

    expect(await other.statuses(...texts)).toEqual(struck);
    expect(struck.filter((status) => status === 500).length).toBeGreaterThan(4);
    expect(struck.filter((status) => status === 500).length).toBeLessThan(20);
  });
});

describe('a fault that answers', () => {
  test.each([400, 401, 402, 403, 408, 409, 413, 429, 500, 502, 503, 529])(
    '%i has a body as OpenAI writes it',
    async (status) => {
      const { server, request } = await setup({
        action: {
          kind: 'status',
          status,
          code: 'some_code',
          type: 'some_type',
          message: 'words',
          retryAfterMs: 1_500,
        },
      });

      const response = await request();

      expect(response.status).toBe(status);
      expect(await response.json()).toEqual({
        error: { message: 'words', type: 'some_type', param: null, code: 'some_code' },
      });
      expect([response.headers.get('retry-after'), response.headers.get('retry-after-ms')]).toEqual([
        '2',
        '1500',
      ]);
      expect(server.ledger.entries[0]).toMatchObject({
        status,
        code: 'some_code',
        billed: false,
        fault: 'status',
      });
    },
  );

  test('HTML or an error with status 200 is no list', async () => {
    const { request } = await setup(
      { times: 1, action: { kind: 'html', status: 200 } },
      { times: 1, action: { kind: 'error_in_200' } },
    );

    const html = await request();
    const error = await request();

    expect([html.status, html.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8']);
    await expect(html.json()).rejects.toThrow();
    expect(error.status).toBe(200);
    expect(await error.json()).toMatchObject({ error: { type: 'server_error' } });
  });

  test('a redirect names another origin, and a client that follows takes its request there', async () => {
    const visited: (string | undefined)[] = [];
    const elsewhere = createServer((req, res) => {
      visited.push(req.url);
      res.end('{}');
    });
    await new Promise<void>((resolve) => elsewhere.listen(0, '127.0.0.1', resolve));
    const { port } = elsewhere.address() as { port: number };
    const location = `http://127.0.0.1:${port}/caught`;
    const { request } = await setup({ action: { kind: 'redirect', status: 308, location } });

    const stayed = await request(undefined, { redirect: 'manual' });
    await request();

    expect([stayed.status, stayed.headers.get('location')]).toEqual([308, location]);
    expect(visited).toEqual(['/caught']);
    elsewhere.close();
  });
});

describe('a fault of the connection', () => {
  test('resets it before any answer', async () => {
    const { server, request } = await setup({ action: { kind: 'reset' } });

    await expect(request()).rejects.toMatchObject({ cause: { code: 'ECONNRESET' } });

    expect(server.ledger.entries[0]).toMatchObject({ status: 0, billed: false });
  });

  test('cuts the body in the middle of a paid answer', async () => {
    const { server, request } = await setup({ action: { kind: 'cut' } });

    const response = await request();

    expect(response.status).toBe(200);
    await expect(response.text()).rejects.toThrow('terminated');
    expect(server.ledger.entries[0]).toMatchObject({ status: 200, billed: true });
  });

  test('never answers, and the call is over when the client gives up', async () => {
    const { server, request } = await setup({ action: { kind: 'hang' } });

    await expect(request(undefined, { signal: AbortSignal.timeout(100) })).rejects.toThrow('timeout');

    await expect.poll(() => server.ledger.inFlight).toBe(0);
    expect(server.ledger.entries[0]).toMatchObject({ status: 0, fault: 'hang' });
  });

  test('delays an answer that is right otherwise', async () => {
    const { server, items } = await setup({ action: { kind: 'delay', delayMs: 60 } });

    expect(await items()).toHaveLength(3);

    expect(server.ledger.entries[0]?.durationMs).toBeGreaterThanOrEqual(55);
  });
});

describe('a spoiled answer', () => {
  const right = ['one', 'two', 'three'].map((text) => [...hashEmbedding(text, MODEL, 8)]);

  test.each([
    ['short', [0, 1]],
    ['long', [0, 1, 2, 3]],
    ['reordered', [2, 1, 0]],
    ['duplicate_index', [0, 0, 2]],
  ] as const)('%s has the indexes %j', async (kind, indexes) => {
    const { items } = await setup({ action: { kind } });

    expect((await items()).map(({ index }) => index)).toEqual(indexes);
  });

  test('that is only reordered still holds each vector under its own index', async () => {
    const { items } = await setup({ action: { kind: 'reordered' } });

    for (const { index, embedding } of await items()) expect(embedding).toEqual(right[index]);
  });

  test.each([
    ['wrong_dimensions', (vector: (number | null)[]) => vector.length === 7],
    ['nan', (vector: (number | null)[]) => vector.includes(null)],
    ['infinite', (vector: (number | null)[]) => vector.includes(Number.POSITIVE_INFINITY)],
    ['zeros', (vector: (number | null)[]) => vector.length === 8 && vector.every((value) => value === 0)],
  ] as const)('%s spoils one vector and leaves the others right', async (kind, isSpoiled) => {
    const { server, items } = await setup({ action: { kind, item: 1 } });

    const [first, second, third] = await items();

    expect(isSpoiled(second?.embedding ?? [])).toBe(true);
    expect([first?.embedding, third?.embedding]).toEqual([right[0], right[2]]);
    expect(server.ledger.entries[0]).toMatchObject({ status: 200, billed: true, fault: kind });
  });

  test('in base64 holds a real NaN', async () => {
    const { request } = await setup({ action: { kind: 'nan' } });

    const { data } = (await (await request(undefined, {}, 'base64')).json()) as {
      data: { embedding: string }[];
    };

    expect(Buffer.from(data[0]?.embedding ?? '', 'base64').readFloatLE(16)).toBeNaN();
  });
});

describe('an outage', () => {
  test('answers 503 to all, or refuses connections on a port that comes back', async () => {
    const { server, statuses } = await setup();

    await server.faults.setOutage('unavailable');
    expect(await statuses('a')).toEqual([503]);
    await server.faults.setOutage('refuse');
    await expect(statuses('b')).rejects.toMatchObject({ cause: { code: 'ECONNREFUSED' } });
    await server.faults.setOutage('off');

    expect(await statuses('c')).toEqual([200]);
  });
});
