/** A provider, callers and time itself are simulated; Redis and the pacers are real. */
import { describe, expect, test } from 'vitest';
import type { ProviderLimits } from '../../src/core/provider-limits.ts';
import { createPacer, type Pacer, type Reservation } from '../../src/pacing/pacer.ts';
import { CLOCK, credentialOf, MODEL, NO_LIMITS, randomFrom, START_MS } from '../support/pacing.ts';
import { useRedis } from '../support/redis.ts';

const store = useRedis();

describe.each([16, 40])('%i callers on 3 workers', (callers) => {
  test('use at least 95% of 60 requests a minute and are refused less than once in 100', async () => {
    const world = await simulate({ requestsLimit: 60, tokensLimit: 1_000_000, callers, minutes: 5 });

    expect(world.utilisation('requests')).toBeGreaterThanOrEqual(0.95);
    expect(world.refusedShare()).toBeLessThanOrEqual(0.01);
    expect(world.longestWaitMs()).toBeLessThan(callers * 2_000);
  });

  test('use at least 95% of 60,000 tokens a minute though estimates are off by 40%', async () => {
    const world = await simulate({ requestsLimit: 3_000, tokensLimit: 60_000, callers, minutes: 5 });

    expect(world.utilisation('tokens')).toBeGreaterThanOrEqual(0.95);
    expect(world.refusedShare()).toBeLessThanOrEqual(0.01);
    expect(world.longestWaitMs()).toBeLessThan(callers * 4_000);
  });

  test('use at least 95% of 3,000 requests and 1,000,000 tokens a minute', async () => {
    const world = await simulate({
      requestsLimit: 3_000,
      tokensLimit: 1_000_000,
      callers,
      minutes: 2,
      tokens: [5_000, 30_000],
    });

    expect(world.utilisation('tokens')).toBeGreaterThanOrEqual(0.95);
    expect(world.refusedShare()).toBeLessThanOrEqual(0.01);
  });
});

test('a fixed limit is used to 95% and never exceeded in any minute, whatever the provider would allow', async () => {
  const fixed = { requestsPerMinute: 60, tokensPerMinute: 400_000 };
  const world = await simulate({
    requestsLimit: 3_000,
    tokensLimit: 1_000_000,
    callers: 16,
    minutes: 5,
    fixed,
  });

  expect(world.busiestMinute().requests).toBeLessThanOrEqual(60);
  expect(world.requestsServed()).toBeGreaterThanOrEqual(60 * 0.95 * 5);
});

test('a fixed limit of tokens is never exceeded in any minute', async () => {
  const fixed = { requestsPerMinute: null, tokensPerMinute: 60_000 };
  const world = await simulate({
    requestsLimit: 3_000,
    tokensLimit: 1_000_000,
    callers: 16,
    minutes: 5,
    fixed,
  });

  expect(world.busiestMinute().tokens).toBeLessThanOrEqual(60_000);
});

describe.each([
  { perMinute: 300, burstSeconds: 1 },
  { perMinute: 300, burstSeconds: 60 },
  { perMinute: 600, burstSeconds: 20 },
  { perMinute: 1_500, burstSeconds: 2 },
  { perMinute: 1_500, burstSeconds: 60 },
])('$perMinute requests a minute, a burst of $burstSeconds s, and not a word about it', (hidden) => {
  test.each(['told', 'untold'])(
    'are found in 30 s and hardly exceeded, with waits that are %s',
    async (wait) => {
      const world = await simulate({
        requestsLimit: hidden.perMinute,
        tokensLimit: 1e9,
        callers: 16,
        minutes: 2,
        silent: true,
        waitUntold: wait === 'untold',
        burstSeconds: hidden.burstSeconds,
        tokens: [500, 3_000],
      });

      expect(world.rateAfter(30_000) / hidden.perMinute).toBeGreaterThanOrEqual(0.9);
      expect(world.refusedShare(30_000)).toBeLessThanOrEqual(0.02);
    },
  );
});

type Options = {
  requestsLimit: number;
  tokensLimit: number;
  callers: number;
  minutes: number;
  /** Smallest and largest request. */
  tokens?: [number, number];
  /** What the operator allows the only key. Without it there are two keys of one organisation. */
  fixed?: { requestsPerMinute: number | null; tokensPerMinute: number | null };
  /** The provider's answers carry no `x-ratelimit` headers. */
  silent?: boolean;
  /** Nor do its refusals say when to come again. */
  waitUntold?: boolean;
  /** Seconds' worth of the limit that may be used at once; 60 if not given. */
  burstSeconds?: number;
};
type Call = { atMs: number; tokens: number; refused: boolean };

/** Runs callers that always have work, for so many minutes of virtual time. */
async function simulate(options: Options) {
  const { requestsLimit, tokensLimit, callers, minutes, tokens = [500, 3_000] } = options;
  const random = randomFrom(callers * 31 + requestsLimit);
  const between = (low: number, high: number) => low + random() * (high - low);
  const pacers = [1, 2, 3].map(() => createPacer(store.redis, { clockKey: CLOCK, random }));
  const events: { atMs: number; run: () => Promise<void> }[] = [];
  const calls: Call[] = [];
  const waits: number[] = [];
  let nowMs = START_MS;
  const at = (atMs: number, run: () => Promise<void>) => events.push({ atMs: Math.round(atMs), run });
  const provider = createProvider(requestsLimit, tokensLimit, START_MS, options.burstSeconds);

  /** One caller's next piece of work, that it asks for until it may go. */
  function work(caller: number, sequence: number): void {
    const cost = Math.round(between(...tokens));
    // Texts differ in how many bytes a token has, by 40% either way.
    const bytes = Math.round(cost * 4.4 * between(0.6, 1.4));
    const credential = options.fixed
      ? credentialOf('key', options.fixed)
      : credentialOf(`key-${caller % 2}`, options.silent ? { baseUrl: 'https://vllm.example.com/v1' } : {});
    const beganMs = nowMs;
    const ask = async () => {
      const pacer = pacers[Math.floor(random() * 3)] as Pacer;
      const answer = await pacer.reserve(credential, MODEL, {
        inputs: 1,
        bytes,
        waiter: `${caller}-${sequence}`,
      });
      // A job that was put off comes back a little late, as a busy worker does.
      if (!answer.go) return void at(nowMs + answer.waitMs + between(0, 400), ask);
      waits.push(nowMs - beganMs);
      at(nowMs + answer.waitMs + between(0, 20), () => send(pacer, answer, caller, sequence, cost));
    };
    at(nowMs, ask);
  }

  async function send(
    pacer: Pacer,
    reservation: Reservation,
    caller: number,
    sequence: number,
    cost: number,
  ) {
    const { refused, retryAfterMs, ...answer } = provider.answer(nowMs, cost);
    const limits = options.silent ? NO_LIMITS : answer.limits;
    calls.push({ atMs: nowMs - START_MS, tokens: cost, refused });
    at(nowMs + between(100, 600), async () => {
      const asked = options.waitUntold ? null : retryAfterMs;
      if (refused) await pacer.refused(reservation, { retryAfterMs: asked, limits });
      else await pacer.settled(reservation, { tokens: cost, limits, organization: 'org-1' });
      work(caller, sequence + 1);
    });
  }

  for (let caller = 0; caller < callers; caller++) work(caller, 0);
  const endMs = START_MS + minutes * 60_000;
  for (;;) {
    events.sort((a, b) => a.atMs - b.atMs);
    const event = events.shift();
    if (event === undefined || event.atMs > endMs) break;
    nowMs = event.atMs;
    await store.redis.set(CLOCK, nowMs);
    await event.run();
  }
  return figures(calls, waits, { requests: requestsLimit, tokens: tokensLimit }, minutes);
}

function figures(
  calls: Call[],
  waits: number[],
  limits: { requests: number; tokens: number },
  minutes: number,
) {
  const served = calls.filter(({ refused }) => !refused);
  return {
    /** Of all that the provider would have allowed: a full bucket, and what flowed into it. */
    utilisation(kind: 'requests' | 'tokens'): number {
      const used = served.reduce((sum, call) => sum + (kind === 'requests' ? 1 : call.tokens), 0);
      return used / (limits[kind] * (1 + minutes));
    },
    refusedShare(fromMs = 10_000) {
      const late = calls.filter(({ atMs }) => atMs > fromMs);
      return late.filter(({ refused }) => refused).length / late.length;
    },
    /** Requests a minute that were served after so long. */
    rateAfter: (fromMs: number) =>
      served.filter(({ atMs }) => atMs > fromMs).length / (minutes - fromMs / 60_000),
    longestWaitMs: () => Math.max(...waits),
    busiestMinute() {
      const minutes = calls.map(({ atMs }) =>
        calls.filter((call) => call.atMs >= atMs && call.atMs <= atMs + 60_000),
      );
      return {
        requests: Math.max(...minutes.map((minute) => minute.length)),
        tokens: Math.max(...minutes.map((minute) => minute.reduce((sum, call) => sum + call.tokens, 0))),
      };
    },
    requestsServed: () => served.length,
  };
}

/** Continuously refilled buckets, as OpenAI's are inferred to be. */
function createProvider(requestsLimit: number, tokensLimit: number, startMs: number, burstSeconds = 60) {
  const burst = Math.max(1, (requestsLimit * burstSeconds) / 60);
  let [requests, tokens, atMs] = [burst, tokensLimit, startMs];
  return {
    answer(nowMs: number, cost: number) {
      const minutes = (nowMs - atMs) / 60_000;
      requests = Math.min(burst, requests + minutes * requestsLimit);
      tokens = Math.min(tokensLimit, tokens + minutes * tokensLimit);
      atMs = nowMs;
      const missing = Math.max((1 - requests) / requestsLimit, (cost - tokens) / tokensLimit);
      const refused = missing > 0;
      if (!refused) [requests, tokens] = [requests - 1, tokens - cost];
      const limits: ProviderLimits = {
        requestsLimit,
        requestsRemaining: Math.floor(requests),
        requestsResetMs: ((requestsLimit - requests) / requestsLimit) * 60_000,
        tokensLimit,
        tokensRemaining: Math.floor(tokens),
        tokensResetMs: ((tokensLimit - tokens) / tokensLimit) * 60_000,
      };
      return { refused, retryAfterMs: Math.max(0, missing * 60_000), limits };
    },
  };
}
