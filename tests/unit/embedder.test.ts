import { inspect } from 'node:util';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { sendsDimensions } from '../../src/openai/embedder.ts';
import {
  embedAll,
  KEY,
  REQUEST,
  refuse,
  send,
  setupEmbedder as setup,
  startProvider,
  vectorOf,
} from '../support/scripted-provider.ts';

afterEach(() => vi.unstubAllEnvs());

describe('a request', () => {
  test('sends the texts under the model, asks for base64, and brings a checked vector for each', async () => {
    const { seen, embed } = await setup(embedAll);

    const { vectors, tokens } = await embed();

    expect(vectors).toEqual([vectorOf('first', 4), vectorOf('second', 4)]);
    expect(tokens).toBe(12);
    expect(seen.map(({ path, body }) => [path, body])).toEqual([
      [
        '/v1/embeddings',
        { model: REQUEST.model, input: REQUEST.texts, encoding_format: 'base64', dimensions: 4 },
      ],
    ]);
  });

  test('says who was billed and what the limits are', async () => {
    const { embed } = await setup(embedAll);

    await expect(embed()).resolves.toMatchObject({
      requestId: 'req_1',
      organization: 'org-tenant-1',
      limits: {
        requestsLimit: 3_000,
        requestsRemaining: 2_999,
        requestsResetMs: 20,
        tokensLimit: 1_000_000,
        tokensRemaining: 999_988,
        tokensResetMs: 360_000,
      },
    });
  });

  test('reads arrays from a server that knows no base64, and limits from one that states none', async () => {
    const { embed } = await setup((response) =>
      send(response, 200, {
        data: [
          { index: 1, embedding: [1, 2, 3, 4] },
          { index: 0, embedding: [5, 6, 7, 8] },
        ],
      }),
    );

    const answer = await embed();

    expect(answer.vectors).toEqual([Float32Array.of(5, 6, 7, 8), Float32Array.of(1, 2, 3, 4)]);
    expect(answer).toMatchObject({
      tokens: 0,
      requestId: null,
      organization: null,
      limits: { tokensLimit: null },
    });
  });

  test('states dimensions only to models that take them', async () => {
    const { seen, embed } = await setup(embedAll);

    await embed({ model: 'nomic-embed-text' });

    expect(seen[0]?.body).not.toHaveProperty('dimensions');
    expect(
      ['text-embedding-3-small', 'text-embedding-3-large', 'openai/text-embedding-3-small'].every(
        sendsDimensions,
      ),
    ).toBe(true);
    expect(['text-embedding-ada-002', 'bge-m3', 'my-text-embedding-3-x'].some(sendsDimensions)).toBe(false);
  });
});

describe('whose key and whose words go out', () => {
  test("nothing of the environment goes out with a tenant's key", async () => {
    vi.stubEnv('OPENAI_API_KEY', 'sk-platform');
    vi.stubEnv('OPENAI_ADMIN_KEY', 'sk-admin');
    vi.stubEnv('OPENAI_ORG_ID', 'org-platform');
    vi.stubEnv('OPENAI_PROJECT_ID', 'proj-platform');
    vi.stubEnv('OPENAI_BASE_URL', 'http://127.0.0.1:9/platform');
    vi.stubEnv(
      'OPENAI_CUSTOM_HEADERS',
      'Authorization: Bearer sk-platform\nX-Platform: secret\nOpenAI-Project: proj-platform',
    );
    vi.stubEnv('OPENAI_LOG', 'debug');
    const printed = vi.spyOn(console, 'debug').mockImplementation(() => {});
    const { seen, embed } = await setup(embedAll);

    await embed();

    expect(seen).toHaveLength(1);
    expect(seen[0]?.headers.authorization).toBe(`Bearer ${KEY}`);
    expect(JSON.stringify(seen)).not.toMatch(/platform|admin|secret/i);
    expect(Object.keys(seen[0]?.headers ?? {}).filter((name) => /openai|stainless/.test(name))).toEqual([]);
    expect(printed).not.toHaveBeenCalled();
  });

  test('an organisation goes out if the credential names one', async () => {
    const { seen, embed } = await setup(embedAll);

    await embed({}, { organization: 'org-tenant-1' });
    await embed({});

    expect(seen.map(({ headers }) => headers['openai-organization'])).toEqual(['org-tenant-1', undefined]);
  });

  test("each request has its own tenant's key, even when two fingerprints are alike", async () => {
    const { seen, embed } = await setup(embedAll);

    const keys = Array.from({ length: 20 }, (_, index) => `sk-tenant-${index}`);
    await Promise.all(keys.map((apiKey) => embed({ texts: [apiKey] }, { apiKey })));
    await Promise.all(keys.map((apiKey) => embed({ texts: [apiKey] }, { apiKey })));

    expect(seen).toHaveLength(40);
    for (const { headers, body } of seen)
      expect(headers.authorization).toBe(`Bearer ${(body.input as string[])[0]}`);
  });

  test('a redirect is not followed, neither elsewhere nor to the same place', async () => {
    const elsewhere = await startProvider(embedAll);
    for (const status of [301, 302, 303, 307, 308]) {
      const { seen, failure } = await setup((response) =>
        send(response, status, '', { location: `${elsewhere.url}/embeddings` }),
      );

      await expect(failure()).resolves.toMatchObject({ code: 'redirected', verdict: 'stop_tenant', status });

      expect(seen).toHaveLength(1);
    }
    expect(elsewhere.seen).toEqual([]);
  });

  test('a key or an organisation that cannot be a header is refused here and is not quoted', async () => {
    const { seen, failure } = await setup(embedAll);

    for (const broken of [
      { apiKey: 'sk-secret\nX: 1' },
      { apiKey: '' },
      { apiKey: 'sk-sécret' },
      { organization: 'a b' },
    ]) {
      const error = await failure({}, broken);
      expect(error.code).toBe('key_invalid');
      expect(inspect(error, { depth: 9 })).not.toContain('secret');
    }
    expect(seen).toEqual([]);
  });

  test('an error quotes neither the key nor a text', async () => {
    const texts = [
      'The patient Ada Lovelace was admitted on Tuesday.',
      'tiny',
      'Quartalszahlen: 12,4 Mio. Verlust',
    ];
    const message = `Bad input: "${texts[0]}", 'tiny' and ${texts[2]?.slice(0, 22)}… for key ${KEY} (sk-te***cdef)`;
    const { failure } = await setup(
      refuse(400, { message, type: 'invalid_request_error', param: 'input', code: null }),
    );

    const error = await failure({ texts });

    expect(error).toMatchObject({
      code: 'input_rejected',
      status: 400,
      providerCode: 'invalid_request_error',
    });
    expect(error.providerMessage).toBe(`Bad input: "[text]", '[text]' and [text]… for key [key] ***`);
    const shown = `${inspect(error, { depth: 9, showHidden: true })} ${JSON.stringify(error)} ${error.stack}`;
    expect(shown).not.toMatch(/Lovelace|tiny|Quartal|0123456789abcdef/);
  });
});

describe('stopping', () => {
  test('an aborted request ends at once and uses up no attempt', async () => {
    const controller = new AbortController();
    const { failure } = await setup(() => controller.abort(new Error('worker closes')));

    await expect(failure({}, {}, controller.signal)).resolves.toMatchObject({
      code: 'shutting_down',
      verdict: 'snooze',
    });
  });

  test('a request that was aborted before it began is never sent', async () => {
    const { seen, failure } = await setup(embedAll);

    await expect(failure({}, {}, AbortSignal.abort())).resolves.toMatchObject({ code: 'shutting_down' });

    expect(seen).toEqual([]);
  });

  test('closing twice is fine, and nothing is sent afterwards', async () => {
    const { seen, embedder, failure } = await setup(embedAll);

    await embedder.close();
    await embedder.close();

    await expect(failure()).resolves.toMatchObject({ code: 'shutting_down' });
    expect(seen).toEqual([]);
  });

  test('a signal that serves many requests keeps no listener of those that ended', async () => {
    const { embed } = await setup(embedAll);
    const controller = new AbortController();
    const added = vi.spyOn(controller.signal, 'addEventListener');
    const removed = vi.spyOn(controller.signal, 'removeEventListener');

    for (let call = 0; call < 10; call++) await embed({}, {}, controller.signal);

    expect(added).toHaveBeenCalledTimes(10);
    expect(removed).toHaveBeenCalledTimes(10);
  });
});
