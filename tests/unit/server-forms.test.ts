import { describe, expect, test } from 'vitest';
import { EmbedError } from '../../src/core/failures.ts';
import type { EmbedRequest } from '../../src/openai/embedder.ts';
import { type Reply, send, setupEmbedder, vectorOf } from '../support/scripted-provider.ts';

/** A server whose model makes vectors of eight numbers, unless fewer are asked for by name. */
const ofEight: Reply = (response, { body }) => {
  const length = typeof body.dimensions === 'number' ? body.dimensions : 8;
  const data = (body.input as string[]).map((text, index) => ({
    index,
    embedding: [...vectorOf(text, length)],
  }));
  send(response, 200, { data });
};

const noDimensions: Reply = (response, seen) =>
  seen.body.dimensions === undefined
    ? ofEight(response, seen)
    : send(response, 400, { error: { message: 'dimensions is not supported' } });

async function setup(reply: Reply, request: Partial<EmbedRequest>) {
  const { embed, seen } = await setupEmbedder(reply);
  /** Sends it as often as the failure says that it may be sent again. */
  const persist = async (): Promise<string> => {
    const error = await embed(request).catch((thrown: unknown) => thrown);
    if (!(error instanceof EmbedError)) return 'answered';
    return error.again ? persist() : error.code;
  };
  return { persist, sent: () => seen.map(({ body }) => body.dimensions ?? null), seen };
}

describe('with `sendDimensions` auto, a request for a model of which nothing is known', () => {
  const model = 'gemini-embedding-001';

  test('names the dimensions once vectors come back in another length', async () => {
    const { persist, sent } = await setup(ofEight, { model });

    expect(await persist()).toBe('answered');
    expect(await persist()).toBe('answered');
    expect(sent()).toEqual([null, 4, 4]);
  });

  test('comes to an end when the server has another length and refuses to be asked', async () => {
    const { persist, sent } = await setup(noDimensions, { model });

    expect(await persist()).toBe('answer_wrong_dimensions');
    expect(sent()).toEqual([null, 4, null]);
  });
});

test('a request names the dimensions always or never where the target says so', async () => {
  const always = await setup(ofEight, { model: 'm', sendDimensions: 'always' });
  const never = await setup(ofEight, { model: 'text-embedding-3-small', sendDimensions: 'never' });
  const refused = await setup(noDimensions, { model: 'm', sendDimensions: 'always' });

  expect([await always.persist(), await never.persist(), await refused.persist()]).toEqual([
    'answered',
    'answer_wrong_dimensions',
    'request_invalid',
  ]);
  expect([always.sent(), never.sent(), refused.sent()]).toEqual([[4], [null], [4]]);
});

test('a request sends the further fields of the target, and none of its own is replaced by them', async () => {
  const fields = { input_type: 'document', task: 'retrieval.passage' };
  const { persist, seen } = await setup(ofEight, { fields, sendDimensions: 'always' });

  expect(await persist()).toBe('answered');
  expect(seen[0]?.body).toMatchObject({
    ...fields,
    model: 'text-embedding-3-small',
    input: ['first', 'second'],
  });
});
