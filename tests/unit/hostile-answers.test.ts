import { describe, expect, test } from 'vitest';
import type { Credential } from '../../src/core/credential.ts';
import { UnplannedStatus } from '../../src/core/failures.ts';
import { checkKey } from '../../src/credentials/store.ts';
import { refuse, send, setupEmbedder } from '../support/scripted-provider.ts';

describe('an answer that is made to do harm', () => {
  test.each([
    ['the words that a pattern goes over', 'maximum '.repeat(8_000)],
    ['digits', '1'.repeat(64_000)],
    ['quotation marks', `'q'`.repeat(20_000)],
    ['a model', 'model '.repeat(10_000)],
  ])('is named in a moment, whatever it says: %s', async (_name, message) => {
    const { failure } = await setupEmbedder(refuse(400, { message }));
    const began = performance.now();

    const error = await failure();

    expect(performance.now() - began).toBeLessThan(1_000);
    expect(String(error.providerMessage).length).toBeLessThanOrEqual(500);
  });

  test.each([
    ['refusal', 400],
    ['success', 200],
  ])('is named when it is a %s nested deeper than any stack', async (_what, status) => {
    const deep = `{"error":${'['.repeat(30_000)}${']'.repeat(30_000)}}`;
    const { embed } = await setupEmbedder((response) => send(response, status, deep));

    const error: unknown = await embed().catch((thrown: unknown) => thrown);

    expect(error).toMatchObject({ name: 'EmbedError' });
  });

  test('of a status that nobody planned for says something of the address when a key is tried', async () => {
    const verdict = await checkKey(() => Promise.reject(new UnplannedStatus(418)), {} as Credential);

    expect(verdict).toEqual({
      status: 'invalid',
      reason: 'the base URL answered with status 418, which no embeddings endpoint does',
    });
  });
});
