/** What is known of an account, and how one begins. Times are milliseconds of Redis's clock. */
import { NO_SEARCH, openSearch, type Search, UNBOUNDED } from './limit-search.ts';
import type { MeterRules, PacingRules } from './pacing-rules.ts';

const MINUTE_MS = 60_000;

/** One bucket of an account. */
export type Meter = {
  /** Units that may be taken now; below zero when places are booked or an estimate was too low. */
  readonly level: number;
  /** Units a minute that are let through now. */
  readonly perMinute: number;
  /** Units a minute that the provider says it allows; 0 while it has not said. */
  readonly limit: number;
  /** Units taken since the account is known: tells what was taken after a given reservation. */
  readonly taken: number;
};

/** All that is known of an account: what a provider limits together. */
export type Account = {
  readonly bornMs: number;
  readonly atMs: number;
  readonly requests: Meter;
  readonly tokens: Meter;
  readonly bytesPerToken: number;
  /** 1 once the provider has answered at all. */
  readonly heard: number;
  /** `taken` of requests at the youngest reservation whose answer was heard. */
  readonly seen: number;
  /** When the rate was last set by the provider, or cut. */
  readonly changedMs: number;
  readonly cooldownUntilMs: number;
  /** Provider failures since the last success. */
  readonly failures: number;
  /** How often the breaker opened since the last success. */
  readonly openings: number;
  /** The breaker lets nothing through before this, and after it only a probe; 0 when it is closed. */
  readonly openUntilMs: number;
  /** Somebody is probing until then; 0 when nobody is. */
  readonly probeUntilMs: number;
  readonly search: Search;
};

/** How an account begins: at a share of OpenAI's lowest tier, or with a search for what its provider lets through. */
export type Start = 'tier' | 'search';

/** An account that nobody has used yet, or whose state was lost. */
export function openAccount(nowMs: number, rules: PacingRules, start: Start): Account {
  const meter = ({ startPerMinute }: MeterRules): Meter => {
    const perMinute = start === 'search' ? UNBOUNDED : startPerMinute;
    return { level: (perMinute * rules.guessBurstMs) / MINUTE_MS, perMinute, limit: 0, taken: 0 };
  };
  return {
    bornMs: nowMs,
    atMs: nowMs,
    requests: meter(rules.requests),
    tokens: meter(rules.tokens),
    bytesPerToken: rules.bytesPerTokenStart,
    heard: 0,
    seen: 0,
    changedMs: 0,
    cooldownUntilMs: 0,
    failures: 0,
    openings: 0,
    openUntilMs: 0,
    probeUntilMs: 0,
    search: start === 'search' ? openSearch(nowMs, rules) : NO_SEARCH,
  };
}
