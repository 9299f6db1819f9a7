import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../src/config.ts';
import { endpointUrl, normalBaseUrl } from '../../src/core/base-url.ts';
import { HeaderFields, HeaderName } from '../../src/core/request-headers.ts';
import {
  credentialFingerprint,
  fingerprintOf,
  openKey,
  sealKey,
  secretsOf,
  secretsText,
} from '../../src/credentials/seal.ts';
import { embedAll, KEY, refuse, setupEmbedder } from '../support/scripted-provider.ts';

describe('further headers', () => {
  test('are ten at most, by name in lower case', () => {
    expect(HeaderFields.parse({ 'X-Gateway': 'a value', 'cf-aig-authorization': 'Bearer x' })).toEqual({
      'x-gateway': 'a value',
      'cf-aig-authorization': 'Bearer x',
    });
    expect(HeaderName.parse('API-Key')).toBe('api-key');
  });

  test.each<[string, unknown]>([
    ['a name with a blank', { 'x gateway': 'v' }],
    ['a name with a line break', { 'x\nevil': 'v' }],
    ['a header that the request decides', { 'Content-Length': '1' }],
    ['a value with a line break', { x: 'v\r\nevil: 1' }],
    ['an empty value', { x: '' }],
    ['a value that is no text', { x: 1 }],
    ['the same name twice', { 'X-A': '1', 'x-a': '2' }],
    ['eleven', Object.fromEntries(Array.from({ length: 11 }, (_, index) => [`x-${index}`, 'v']))],
    ['a list', ['x']],
    ['a text', 'x: v'],
  ])('are refused with %s', (_what, given) => {
    expect(HeaderFields.safeParse(given).success).toBe(false);
  });

  test('are sealed with the key', () => {
    const sealing = randomBytes(32);
    const secrets = { apiKey: 'sk-1', headers: { 'x-gateway': 'planted' } };
    const sealed = sealKey(secretsText(secrets), { tenantId: 'acme' }, sealing);

    expect(sealed.includes('planted')).toBe(false);
    expect(secretsOf(openKey(sealed, { tenantId: 'acme' }, [sealing]).text)).toEqual(secrets);
    expect(secretsOf(secretsText({ apiKey: 'sk-1' }))).toEqual({ apiKey: 'sk-1' });
  });

  test('make the credential another one, and so another account', () => {
    const plain = credentialFingerprint({ apiKey: 'k' });
    const others = [
      { apiKey: 'k', headers: { a: '1' } },
      { apiKey: 'k', headers: { a: '2' } },
      { apiKey: 'k', apiKeyHeader: 'api-key' },
      { apiKey: 'k', model: 'deployment' },
    ].map(credentialFingerprint);

    expect(plain).toBe(fingerprintOf('k'));
    expect(new Set([plain, ...others]).size).toBe(5);
    expect(credentialFingerprint({ apiKey: 'k', headers: { b: '2', a: '1' } })).toBe(
      credentialFingerprint({ apiKey: 'k', headers: { a: '1', b: '2' } }),
    );
  });

  test('go out with the key in the header that the credential names, to an address with a query', async () => {
    const { seen, embed, url } = await setupEmbedder(embedAll);

    await embed(
      { model: 'target-model' },
      {
        apiKeyHeader: 'api-key',
        headers: { 'x-gateway': 'planted', accept: 'text/html' },
        model: 'deployment',
        baseUrl: `${url}/openai?api-version=2024-10-21`,
        fingerprint: 'f2',
      },
    );

    expect(seen[0]).toMatchObject({
      path: '/v1/openai/embeddings?api-version=2024-10-21',
      headers: { 'api-key': KEY, 'x-gateway': 'planted', accept: 'application/json' },
      body: { model: 'deployment' },
    });
    expect(seen[0]?.headers).not.toHaveProperty('authorization');
  });

  test('are masked in what a provider says', async () => {
    const { failure } = await setupEmbedder(refuse(401, { message: 'planted-value is not allowed' }));

    const error = await failure({}, { headers: { 'x-gateway': 'planted-value' }, fingerprint: 'f3' });

    expect(error.providerMessage).toBe('[key] is not allowed');
  });
});

describe('a base URL with a query', () => {
  test('has one spelling', () => {
    expect(normalBaseUrl('https://H/openai/?api-version=1')).toBe('https://h/openai?api-version=1');
    expect(normalBaseUrl('https://h/v1///')).toBe('https://h/v1');
  });

  test('has it behind the path of a request', () => {
    expect(endpointUrl('https://h/openai?api-version=1', '/embeddings')).toBe(
      'https://h/openai/embeddings?api-version=1',
    );
    expect(endpointUrl('https://h/v1', '/embeddings')).toBe('https://h/v1/embeddings');
  });
});

const GOOD = {
  DATABASE_URL: 'postgres://user:secret@localhost:5432/app',
  REDIS_URL: 'redis://localhost:6379',
  ADMIN_SECRET: 'long enough to be one',
};

test("the configuration has the header of the platform's key and further ones, and keeps these out of the log", () => {
  const headers = { OPENAI_API_KEY_HEADER: 'API-Key', OPENAI_HEADERS: '{"X-Gateway": "planted-value"}' };

  const config = parseConfig({ ...GOOD, ...headers });

  expect(config.keys).toMatchObject({
    platformApiKeyHeader: 'api-key',
    platformHeaders: { 'x-gateway': 'planted-value' },
  });
  expect(config.secrets).toContain('planted-value');
  const wrong = () => parseConfig({ ...GOOD, OPENAI_HEADERS: '{"x": "planted' });
  expect(wrong).toThrow('OPENAI_HEADERS: expected at most 10 headers by name, such as {"x-gateway": "..."}');
  expect(wrong).not.toThrow('planted');
});
