import { describe, expect, test } from 'vitest';
import type { AccessSecrets } from '../../src/http/auth.ts';
import { type EndedSessions, endedInMemory, Sessions } from '../../src/http/session.ts';
import { ADMIN_SECRET } from '../support/admin-server.ts';

describe('a session', () => {
  const HOUR_MS = 3_600_000;

  const OLD = 'the admin secret before this one';
  const VIEWER = 'the secret of those who only look';
  const made = (
    secrets: Partial<AccessSecrets> = {},
    { now = Date.now, ended = endedInMemory() }: { now?: () => number; ended?: EndedSessions } = {},
  ) => new Sessions({ adminSecret: ADMIN_SECRET, ...secrets }, ended, now);
  const cookieOf = async (sessions: Sessions, secret = ADMIN_SECRET) =>
    (await sessions.create(secret))?.value ?? 'none';

  test('counts at every process and after a restart, for eight hours', async () => {
    let nowMs = 1_000;
    const now = () => nowMs;
    const value = await cookieOf(made({}, { now }));
    const elsewhere = made({}, { now });

    expect(await elsewhere.roleOfValue(value)).toBe('admin');
    nowMs += 8 * HOUR_MS - 1;
    expect(await elsewhere.roleOfValue(value)).toBe('admin');
    nowMs += 1;
    expect(await elsewhere.roleOfValue(value)).toBeUndefined();
  });

  test('has the role of its secret, and ends when its secret is taken out of the configuration', async () => {
    const all = { adminSecretPrevious: OLD, viewerSecret: VIEWER };
    const current = await cookieOf(made(all));
    const previous = await cookieOf(made(all), OLD);
    const viewer = await cookieOf(made(all), VIEWER);

    expect(await made(all).roleOfValue(current)).toBe('admin');
    expect(await made(all).roleOfValue(previous)).toBe('admin');
    expect(await made(all).roleOfValue(viewer)).toBe('viewer');
    expect(await made({ adminSecret: OLD }).roleOfValue(current)).toBeUndefined();
    expect(await made().roleOfValue(previous)).toBeUndefined();
    expect(await made().roleOfValue(viewer)).toBeUndefined();
    expect(await made().create('another secret, as long')).toBeUndefined();
  });

  test('cannot be forged, prolonged or guessed', async () => {
    const sessions = made({}, { now: () => 1_000 });
    const [endsAtMs, id, signature] = (await cookieOf(sessions)).split('.');

    for (const forged of [
      undefined,
      '',
      '.',
      '..',
      `${endsAtMs}.${id}`,
      `${endsAtMs}.${id}.`,
      `${endsAtMs}.${id}.${signature}.more`,
      `${Number(endsAtMs) + 1}.${id}.${signature}`,
      `${endsAtMs}.x${id}.${signature}`,
      `${endsAtMs}.${id}.${signature?.slice(1)}`,
      `${endsAtMs}.${id}.${Buffer.alloc(32).toString('base64url')}`,
    ]) {
      expect(await sessions.roleOfValue(forged), String(forged)).toBeUndefined();
    }
  });
});
