import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { fingerprintOf, openKey, sealKey } from '../../src/credentials/seal.ts';

const KEY = 'sk-planted-tenant-key-0123456789';
const sealing = randomBytes(32);

/** What opening throws, which must say nothing of the key. */
function failure(open: () => string): string {
  try {
    return `opened: ${open()}`;
  } catch (error) {
    return String(error);
  }
}

describe('a sealed key', () => {
  test('invariant: opens to the very same key, for the same tenant and sealing key', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'grapheme' }),
        fc.string({ unit: 'grapheme' }),
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        (key, tenant, bytes) => {
          const sealedBy = Buffer.from(bytes);
          expect(openKey(sealKey(key, tenant, sealedBy), tenant, sealedBy)).toBe(key);
        },
      ),
    );
  });

  test('is never the same twice, and does not hold the key', () => {
    const [first, second] = [sealKey(KEY, 'acme', sealing), sealKey(KEY, 'acme', sealing)];

    expect(first.equals(second)).toBe(false);
    expect(first.subarray(0, 12).equals(second.subarray(0, 12))).toBe(false);
    expect(first.includes(KEY.slice(0, 6))).toBe(false);
  });

  test('does not open for another tenant, nor with another sealing key', () => {
    const sealed = sealKey(KEY, 'acme', sealing);

    for (const said of [
      failure(() => openKey(sealed, 'globex', sealing)),
      failure(() => openKey(sealed, 'acme', randomBytes(32))),
    ]) {
      expect(said).toMatch(/^Error/);
      expect(said).not.toContain('planted');
    }
  });

  test('does not open when any one of its bits was changed', () => {
    const sealed = sealKey(KEY, 'acme', sealing);
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const changed = Buffer.from(sealed);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(
        failure(() => openKey(changed, 'acme', sealing)),
        `bit ${bit}`,
      ).toMatch(/^Error/);
    }
  });

  test('does not open when it was cut, down to nothing, or made longer', () => {
    const sealed = sealKey(KEY, 'acme', sealing);
    for (let length = 0; length < sealed.length; length++)
      expect(
        failure(() => openKey(sealed.subarray(0, length), 'acme', sealing)),
        `${length} bytes`,
      ).toMatch(/Error/);
    expect(failure(() => openKey(Buffer.concat([sealed, Buffer.from('x')]), 'acme', sealing))).toMatch(
      /^Error/,
    );
  });
});

test('a fingerprint tells keys apart, and nothing else of them', () => {
  expect(fingerprintOf(KEY)).toMatch(/^[0-9a-f]{16}$/);
  expect(fingerprintOf(KEY)).toBe(fingerprintOf(KEY));
  expect(fingerprintOf(KEY)).not.toBe(fingerprintOf(`${KEY} `));
});
