import { createCipheriv, randomBytes } from 'node:crypto';
import { getTableColumns } from 'drizzle-orm';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { openCredential } from '../../src/credentials/keyring.ts';
import { fingerprintOf, openKey, type SealTerms, sealKey, sealTermsOf } from '../../src/credentials/seal.ts';
import { tenantCredentials } from '../../src/db/schema.ts';

const KEY = 'sk-planted-tenant-key-0123456789';
const ACME = {
  tenantId: 'acme',
  baseUrl: 'https://a.example/v1',
  organization: null,
  apiKeyHeader: null,
  model: null,
};
const sealing = randomBytes(32);
const open = (sealed: Buffer, terms: SealTerms = ACME, keys: readonly Buffer[] = [sealing]) =>
  openKey(sealed, terms, keys).text;

/** A seal as the first version made it: bound to the tenant alone. */
function firstFormat(apiKey: string, tenantId: string, key: Buffer): Buffer {
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  cipher.setAAD(Buffer.from(tenantId));
  const sealed = Buffer.concat([cipher.update(apiKey), cipher.final()]);
  return Buffer.concat([nonce, cipher.getAuthTag(), sealed]);
}

/** What opening throws, which must say nothing of the key. */
function failure(act: () => unknown): string {
  try {
    return `opened: ${act()}`;
  } catch (error) {
    return String(error);
  }
}

describe('a sealed key', () => {
  test('invariant: opens to the very same key, beside the same terms in any order and with the same sealing key', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'grapheme' }),
        fc.string({ unit: 'grapheme' }),
        fc.dictionary(fc.string(), fc.option(fc.jsonValue())),
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        (key, tenantId, more, bytes) => {
          const sealedBy = Buffer.from(bytes);
          const sealed = sealKey(key, { ...more, tenantId }, sealedBy);
          const reversed = Object.fromEntries(Object.entries({ ...more, tenantId }).toReversed());
          expect(open(sealed, reversed as SealTerms, [randomBytes(32), sealedBy])).toBe(key);
        },
      ),
    );
  });

  test('is never the same twice, and does not hold the key', () => {
    const [first, second] = [sealKey(KEY, ACME, sealing), sealKey(KEY, ACME, sealing)];

    expect(first.equals(second)).toBe(false);
    expect(first.subarray(12, 24).equals(second.subarray(12, 24))).toBe(false);
    expect(first.includes(KEY.slice(0, 6))).toBe(false);
  });

  test.each([
    ['another tenant', { ...ACME, tenantId: 'globex' }],
    ['another address', { ...ACME, baseUrl: 'https://evil.example/v1' }],
    ['no address', { ...ACME, baseUrl: null }],
    ['another organisation', { ...ACME, organization: 'org-evil' }],
    ['another header for the key', { ...ACME, apiKeyHeader: 'x-evil' }],
    ['a field more', { ...ACME, headers: { 'x-evil': '1' } }],
  ])('does not open beside %s', (_name, terms) => {
    const said = failure(() => open(sealKey(KEY, ACME, sealing), terms));
    expect(said).toMatch(/^Error/);
    expect(said).not.toContain('planted');
  });

  test('opens beside a field more that is empty, so that one may be added later', () => {
    expect(open(sealKey(KEY, ACME, sealing), { ...ACME, later: null, also: undefined })).toBe(KEY);
  });

  test('does not open with another sealing key, or with none', () => {
    const sealed = sealKey(KEY, ACME, sealing);
    expect(failure(() => open(sealed, ACME, [randomBytes(32)]))).toMatch(/^Error/);
    expect(failure(() => open(sealed, ACME, []))).toMatch(/^Error/);
  });

  test('does not open when any one of its bits was changed', () => {
    const sealed = sealKey(KEY, ACME, sealing);
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const changed = Buffer.from(sealed);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(
        failure(() => open(changed)),
        `bit ${bit}`,
      ).toMatch(/^Error/);
    }
  });

  test('does not open when it was cut, down to nothing, or made longer', () => {
    const sealed = sealKey(KEY, ACME, sealing);
    for (let length = 0; length < sealed.length; length++)
      expect(
        failure(() => open(sealed.subarray(0, length))),
        `${length} bytes`,
      ).toMatch(/Error/);
    expect(failure(() => open(Buffer.concat([sealed, Buffer.from('x')])))).toMatch(/^Error/);
  });

  test('binds every column of a credential that says where or how its key goes', () => {
    const free = [
      'sealedKey',
      'headerNames',
      'fingerprint',
      'last4',
      'requestsPerMinute',
      'tokensPerMinute',
      'weight',
    ];
    const health = ['status', 'statusReason', 'statusSince', 'checkedAt', 'updatedAt'];
    const columns = Object.keys(getTableColumns(tenantCredentials));
    const bound = Object.keys(sealTermsOf(ACME));

    expect([...bound, ...free, ...health].toSorted()).toEqual(columns.toSorted());
  });
});

describe('a stored credential', () => {
  const OWN = 'http://own.internal/v1';
  const options = {
    platformKey: null,
    defaultBaseUrl: 'https://api.example/v1',
    policy: 'required',
    sealingKey: sealing,
    allowedBaseUrls: [OWN],
  } as const;
  const stored = (baseUrl: string | null, seal: (terms: SealTerms) => Buffer) => {
    const terms = { ...ACME, baseUrl };
    const limits = { requestsPerMinute: null, tokensPerMinute: null, weight: 1 };
    return { ...terms, ...limits, fingerprint: fingerprintOf(KEY), sealedKey: seal(terms) };
  };
  const present = (terms: SealTerms) => sealKey(KEY, terms, sealing);
  const first = () => firstFormat(KEY, 'acme', sealing);

  test.each([null, OWN, 'https://a.example/v1'])('goes to the address %j that its seal proves', (baseUrl) => {
    const credential = openCredential(stored(baseUrl, present), options);
    expect(credential).toMatchObject({ apiKey: KEY, baseUrl: baseUrl ?? options.defaultBaseUrl });
  });

  test('is not used beside an address that somebody put into the database', () => {
    const changed = { ...stored('https://a.example/v1', present), baseUrl: 'https://evil.example/v1' };
    expect(failure(() => openCredential(changed, options))).toContain('key_unreadable');
  });

  test('opens with the sealing key before the present one', () => {
    const record = stored(null, present);
    const rotated = { ...options, sealingKey: randomBytes(32), sealingKeyPrevious: sealing };
    expect(openCredential(record, rotated).apiKey).toBe(KEY);
    expect(failure(() => openCredential(record, { ...rotated, sealingKeyPrevious: null }))).toContain(
      'key_unreadable',
    );
  });

  test.each([null, OWN, 'https://api.example/v1'])(
    'sealed in the first format goes only where the operator chose, as to %j',
    (baseUrl) => {
      expect(openCredential(stored(baseUrl, first), options).apiKey).toBe(KEY);
    },
  );

  test.each(['https://evil.example/v1', 'https://api.example/v1/more', ''])(
    'sealed in the first format is not used beside the address %j, which nothing proves',
    (baseUrl) => {
      expect(failure(() => openCredential(stored(baseUrl, first), options))).toContain('key_unreadable');
    },
  );

  test('sealed in the first format is not used beside what came later than it', () => {
    const record = { ...stored(null, first), apiKeyHeader: 'x-evil' };
    expect(failure(() => openCredential(record, options))).toContain('key_unreadable');
  });

  test('is not used when its address is no longer allowed', () => {
    const record = stored(OWN, present);
    expect(failure(() => openCredential(record, { ...options, allowedBaseUrls: [] }))).toContain(
      'address_refused',
    );
  });
});

test('a fingerprint tells keys apart, and nothing else of them', () => {
  expect(fingerprintOf(KEY)).toMatch(/^[0-9a-f]{16}$/);
  expect(fingerprintOf(KEY)).toBe(fingerprintOf(KEY));
  expect(fingerprintOf(KEY)).not.toBe(fingerprintOf(`${KEY} `));
});
