import { brotliCompressSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { answerBytesMax, ERROR_BYTES_MAX, parseAnswer } from '../../src/openai/answer-body.ts';
import { REQUEST, type Reply, setupEmbedder, vectorOf } from '../support/scripted-provider.ts';

const base64 = (vector: Float32Array) => Buffer.from(vector.buffer).toString('base64');
const VECTORS = REQUEST.texts.map((text) => vectorOf(text, 4));
const ANSWER = JSON.stringify({
  data: VECTORS.map((vector, index) => ({ object: 'embedding', index, embedding: base64(vector) })),
});
const reply =
  (status: number, body: Buffer | string, headers: Record<string, string> = {}): Reply =>
  (response) =>
    void response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(body);

describe('the body of an answer', () => {
  test.each([
    ['gzip', gzipSync(ANSWER)],
    ['br', brotliCompressSync(ANSWER)],
  ])('is read though nobody asked for %s', async (encoding, body) => {
    const { embed, seen } = await setupEmbedder(reply(200, body, { 'content-encoding': encoding }));

    expect((await embed()).vectors).toEqual(VECTORS);
    expect(seen[0]?.headers).not.toHaveProperty('accept-encoding');
  });

  test('is read whatever its content type says, and behind a byte order mark', async () => {
    const { embed } = await setupEmbedder(reply(200, `\uFEFF${ANSWER}`, { 'content-type': 'text/plain' }));

    expect((await embed()).vectors).toEqual(VECTORS);
  });

  const bytesMax = answerBytesMax({ inputs: 2, dimensions: 4 });
  test.each<[string, Reply]>([
    ['says that it is too long', reply(200, 'x'.repeat(bytesMax + 1))],
    [
      'goes on too long',
      (response) => {
        const more = () => {
          while (response.write('x'.repeat(16_384))) if (response.destroyed) return;
          response.once('drain', more);
        };
        more();
      },
    ],
    [
      'is small and becomes large',
      reply(200, gzipSync('{}'.repeat(10_000_000)), { 'content-encoding': 'gzip' }),
    ],
    [
      'is small and becomes large by brotli',
      reply(200, brotliCompressSync(' '.repeat(1_000_000)), { 'content-encoding': 'br' }),
    ],
    ['is in no known encoding', reply(200, ANSWER, { 'content-encoding': 'zstd-and-more' })],
    ['is not what its encoding says', reply(200, ANSWER, { 'content-encoding': 'gzip' })],
    ['has a status that is none', reply(799, ANSWER)],
  ])('is refused when it %s', async (_what, answer) => {
    const { failure } = await setupEmbedder(answer);

    expect((await failure()).code).toBe('answer_malformed');
  });

  test.each<[string, Buffer, Record<string, string>]>([
    ['long', Buffer.from(JSON.stringify({ error: { message: 'x'.repeat(20_000_000) } })), {}],
    [
      'compressed',
      gzipSync(JSON.stringify({ error: { message: ' '.repeat(20_000_000) } })),
      { 'content-encoding': 'gzip' },
    ],
  ])('of an error may be %s: its status names the failure', async (_what, body, headers) => {
    const { failure } = await setupEmbedder(reply(503, body, headers));

    const error = await failure();

    expect(error.code).toBe('provider_failed');
    expect((error.providerMessage ?? '').length).toBeLessThan(ERROR_BYTES_MAX);
  });

  test('of an error is understood when it is compressed', async () => {
    const body = gzipSync(JSON.stringify({ error: { message: 'no more', code: 'insufficient_quota' } }));
    const { failure } = await setupEmbedder(reply(429, body, { 'content-encoding': 'gzip' }));

    expect(await failure()).toMatchObject({ code: 'quota_exhausted', providerMessage: 'no more' });
  });
});

describe('parseAnswer', () => {
  test('property: it reads what JSON.parse reads, with vectors in the place of their base64', () => {
    const value = fc.oneof(
      fc
        .array(fc.float({ noNaN: true }), { minLength: 3, maxLength: 3 })
        .map((floats) => base64(Float32Array.from(floats))),
      fc.string({ unit: 'grapheme' }),
      fc.constant('"embedding":"AAAAAAAAAAAAAAAA"'),
      fc.jsonValue(),
    );
    const item = fc.record({
      embedding: value,
      index: fc.integer(),
      '"embedding"': value,
      object: fc.constant('embedding'),
    });
    fc.assert(
      fc.property(fc.array(item), value, fc.constantFrom(undefined, 2), (data, usage, space) => {
        const text = JSON.stringify({ data, usage, embedding: usage }, undefined, space);
        const parsed = parseAnswer(Buffer.from(text), 3) as {
          data: { embedding: unknown }[];
          usage: unknown;
        };

        const plain = JSON.parse(text) as { data: { embedding: unknown }[]; usage: unknown };
        expect(parsed.data.length).toBe(plain.data.length);
        for (const [at, { embedding: was }] of plain.data.entries()) {
          const now = parsed.data[at]?.embedding;
          if (now instanceof Float32Array) expect(base64(now)).toBe(was);
          // A number where a vector belongs is no vector, whichever number it is.
          else if (typeof was === 'number') expect(now === was || now === null).toBe(true);
          else expect(now).toEqual(was);
        }
        expect(parsed.usage).toEqual(plain.usage);
      }),
    );
  });

  test('an answer with numbers among its vectors leaves an item without a vector', () => {
    const vector = base64(Float32Array.of(1, 2, 3));
    const text = JSON.stringify({
      data: [{ embedding: 0 }, { embedding: vector }, { embedding: 1 }, { embedding: -1 }],
    });

    const { data } = parseAnswer(Buffer.from(text), 3) as { data: { embedding: unknown }[] };

    const vectors = data.filter(({ embedding }) => embedding instanceof Float32Array);
    expect(vectors.length).toBeLessThanOrEqual(1);
  });

  test('what is no JSON is a SyntaxError', () => {
    expect(() => parseAnswer(Buffer.from('<html>"embedding":"AAAAAAAAAAAAAAAA"'), 3)).toThrow(SyntaxError);
  });
});
