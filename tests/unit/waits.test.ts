import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { durationMs, WAIT_MS_MAX, waitOf } from '../../src/core/waits.ts';

const NOW_MS = Date.parse('2026-05-01T12:00:00Z');

describe('durationMs', () => {
  test('reads durations as providers write them', () => {
    const cases = {
      '12ms': 12,
      '1s': 1_000,
      '2.812s': 2_812,
      '6m0s': 360_000,
      '1h2m3.5s': 3_723_500,
      '1d2h': 93_600_000,
    };
    for (const [text, expectedMs] of Object.entries(cases)) expect(durationMs(text), text).toBe(expectedMs);
    expect(durationMs('60')).toBe(60_000);
    expect(durationMs('1 minute 30 seconds')).toBe(90_000);
  });

  test('is null for anything else', () => {
    for (const text of ['', 'soon', '-1s', '3 months', '1s later', null, undefined])
      expect(durationMs(text)).toBeNull();
  });

  test('property: reads back what it was written from', () => {
    const part = fc.integer({ min: 0, max: 59 });
    fc.assert(
      fc.property(part, part, part, (hours, minutes, seconds) => {
        expect(durationMs(`${hours}h${minutes}m${seconds}s`)).toBe(
          ((hours * 60 + minutes) * 60 + seconds) * 1_000,
        );
      }),
    );
  });
});

describe('waitOf', () => {
  test('reads each way of saying when to come back', () => {
    expect(waitOf({ retryAfterMs: '1500' }, NOW_MS)).toBe(1_500);
    expect(waitOf({ retryAfter: '20' }, NOW_MS)).toBe(20_000);
    expect(waitOf({ retryAfter: 'Fri, 01 May 2026 12:00:30 GMT' }, NOW_MS)).toBe(30_000);
    expect(waitOf({ tokensResetMs: 3_000 }, NOW_MS)).toBe(3_000);
    expect(waitOf({ message: 'Please try again in 2.812s. Visit https://…' }, NOW_MS)).toBe(2_812);
    expect(waitOf({ message: 'Please try again in 20ms.' }, NOW_MS)).toBe(20);
    expect(waitOf({ message: 'try again in 1m30s' }, NOW_MS)).toBe(90_000);
    expect(waitOf({ message: 'Please retry after 26 seconds.' }, NOW_MS)).toBe(26_000);
  });

  test('takes the longest of all', () => {
    const signs = {
      retryAfterMs: '900',
      retryAfter: '1',
      requestsResetMs: 12_000,
      message: 'try again in 3s',
    };

    expect(waitOf(signs, NOW_MS)).toBe(12_000);
  });

  test('does not wait for a bucket that has something left to be full again', () => {
    const signs = { retryAfter: '3', tokensRemaining: 23_837, tokensResetMs: 58_000 };

    expect(waitOf(signs, NOW_MS)).toBe(3_000);
    expect(waitOf({ ...signs, tokensRemaining: 0 }, NOW_MS)).toBe(58_000);
  });

  test("measures an HTTP date against the provider's own clock", () => {
    const signs = { retryAfter: 'Fri, 01 May 2026 13:00:05 GMT', date: 'Fri, 01 May 2026 13:00:00 GMT' };

    expect(waitOf(signs, NOW_MS)).toBe(5_000);
  });

  test('is undefined when nothing legible was said, and a date that has passed says nothing', () => {
    expect(waitOf({}, NOW_MS)).toBeUndefined();
    expect(waitOf({ retryAfter: 'soon', retryAfterMs: 'NaN', message: 'slow down' }, NOW_MS)).toBeUndefined();
    expect(waitOf({ retryAfter: 'Fri, 01 May 2026 11:00:00 GMT' }, NOW_MS)).toBeUndefined();
  });

  test('property: a wait is a whole number of milliseconds, not negative, at most a day, whatever a provider says', () => {
    const text = fc.oneof(fc.string(), fc.stringMatching(/^-?\d{1,30}(\.\d{1,5})?(ms|s|m|h)?$/));
    const sign = fc.record({ retryAfterMs: text, retryAfter: text, date: text, message: text });
    fc.assert(
      fc.property(sign, fc.double(), (signs, resetMs) => {
        const waitMs = waitOf({ ...signs, tokensResetMs: resetMs }, NOW_MS) ?? 0;
        expect(Number.isInteger(waitMs) && waitMs >= 0 && waitMs <= WAIT_MS_MAX).toBe(true);
      }),
    );
  });
});
