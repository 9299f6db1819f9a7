import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../src/config.ts';

const GOOD = {
  DATABASE_URL: 'postgres://user:password@localhost:5432/app',
  REDIS_URL: 'redis://localhost:6379',
  ADMIN_SECRET: 'long enough to be one',
};

describe('a secret', () => {
  test.each([
    [
      'that is one character repeated is refused',
      { ADMIN_SECRET: 'a'.repeat(32) },
      'ADMIN_SECRET: expected a secret that nobody can guess, not one character repeated',
    ],
    [
      'that seals and is all zeros is refused',
      { CREDENTIALS_KEY: Buffer.alloc(32).toString('base64') },
      'CREDENTIALS_KEY: expected 32 random bytes in base64',
    ],
    [
      'before the present one is long enough too',
      { ADMIN_SECRET_PREVIOUS: 'short' },
      'ADMIN_SECRET_PREVIOUS: expected at least 16 characters',
    ],
    [
      'of viewers is not that of admins',
      { VIEWER_SECRET: GOOD.ADMIN_SECRET },
      'VIEWER_SECRET: expected another secret than the admin secret',
    ],
  ])('%s', (_name, env: Record<string, string>, mistake) => {
    expect(() => parseConfig({ ...GOOD, ...env })).toThrow(mistake);
  });

  test('before the present one, and of viewers, is read', () => {
    const more = { ADMIN_SECRET_PREVIOUS: 'the secret before this', VIEWER_SECRET: 'only to look with' };
    expect(parseConfig({ ...GOOD, ...more })).toMatchObject({
      adminSecret: GOOD.ADMIN_SECRET,
      adminSecretPrevious: 'the secret before this',
      viewerSecret: 'only to look with',
    });
    expect(parseConfig(GOOD)).toMatchObject({ adminSecretPrevious: null, viewerSecret: null });
  });
});
