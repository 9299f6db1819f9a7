/** What an answer said about when to come back. Headers as they were received; absent ones null or undefined. */
export type WaitSigns = {
  /** `retry-after-ms`: milliseconds. */
  readonly retryAfterMs?: string | null | undefined;
  /** `retry-after`: seconds, or an HTTP date. */
  readonly retryAfter?: string | null | undefined;
  /** `date`: the provider's clock when it answered, which an HTTP date is measured against. */
  readonly date?: string | null | undefined;
  readonly requestsRemaining?: number | null | undefined;
  readonly requestsResetMs?: number | null | undefined;
  readonly tokensRemaining?: number | null | undefined;
  readonly tokensResetMs?: number | null | undefined;
  /** The provider's words: "Please try again in 2.812s." */
  readonly message?: string | null | undefined;
};

/** A wait that is longer is believed to be this long: a day is the longest limit window a provider has. */
export const WAIT_MS_MAX = 24 * 60 * 60 * 1_000;

/**
 * How long a provider asks us to stay away, in milliseconds: the longest of all that it said, or undefined if it said nothing.
 *
 * A reset counts only for a bucket that is empty, or of which nothing is known: it is the time until the bucket is *full*
 * again, and most answers carry one for a bucket that has plenty left. `nowMs` is our clock, used when the answer has no date.
 */
export function waitOf(signs: WaitSigns, nowMs: number): number | undefined {
  const waits = [
    millisecondsOf(signs.retryAfterMs),
    retryAfterMs(signs.retryAfter, signs.date, nowMs),
    (signs.requestsRemaining ?? 0) > 0 ? undefined : signs.requestsResetMs,
    (signs.tokensRemaining ?? 0) > 0 ? undefined : signs.tokensResetMs,
    messageWaitMs(signs.message),
  ].filter((wait): wait is number => typeof wait === 'number' && Number.isFinite(wait) && wait >= 0);

  return waits.length === 0 ? undefined : Math.min(WAIT_MS_MAX, Math.ceil(Math.max(...waits)));
}

/**
 * Milliseconds of a duration as providers write it: `12ms`, `2.812s`, `6m0s`, `1h2m3.5s`, `1 minute 30 seconds`; a bare number
 * is seconds. Returns null for anything else.
 */
export function durationMs(text: string | null | undefined): number | null {
  const trimmed = text?.trim() ?? '';
  if (/^\d+(\.\d+)?$/.test(trimmed)) return Number(trimmed) * 1_000;
  return WHOLE_DURATION.test(trimmed) ? sumOfParts(trimmed) : null;
}

const UNIT_MS = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1_000, ms: 1 } as const;
const PART = String.raw`\d+(?:\.\d+)?\s?(?:milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|h|days?|d)(?![a-z])`;
const WHOLE_DURATION = new RegExp(String.raw`^(?:${PART}\s?)+$`, 'i');
const MESSAGE_WAIT = new RegExp(String.raw`\b(?:again|retry)\s+(?:in|after)\s+((?:${PART}\s?)+)`, 'i');

function sumOfParts(duration: string): number {
  let totalMs = 0;
  for (const [, amount, unit] of duration.matchAll(/(?<!\d)(\d{1,15}(?:\.\d{1,15})?)\s?([a-z]+)/gi)) {
    totalMs += Number(amount) * unitMs(unit?.toLowerCase() ?? '');
  }
  return totalMs;
}

function unitMs(unit: string): number {
  if (unit === 'ms' || unit.startsWith('milli')) return UNIT_MS.ms;
  return UNIT_MS[unit.charAt(0) as 'd' | 'h' | 'm' | 's'];
}

function messageWaitMs(message: string | null | undefined): number | undefined {
  const wait = MESSAGE_WAIT.exec(message ?? '')?.[1];
  return wait === undefined ? undefined : sumOfParts(wait);
}

function retryAfterMs(
  value: string | null | undefined,
  date: string | null | undefined,
  nowMs: number,
): number | undefined {
  const trimmed = value?.trim() ?? '';
  if (/^\d+(\.\d+)?$/.test(trimmed)) return Number(trimmed) * 1_000;

  const atMs = Date.parse(trimmed);
  if (Number.isNaN(atMs)) return undefined;
  const providerNowMs = Date.parse(date ?? '');
  return atMs - (Number.isNaN(providerNowMs) ? nowMs : providerNowMs);
}

function millisecondsOf(value: string | null | undefined): number | undefined {
  return /^\s*\d+(\.\d+)?\s*$/.test(value ?? '') ? Number(value) : undefined;
}
