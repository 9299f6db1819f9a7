import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { admit, type Buckets, formatDuration, fullBucket } from '../../dev/openai-server/limits.ts';
import {
  type OpenAiServer,
  type OpenAiServerOptions,
  startOpenAiServer,
} from '../../dev/openai-server/server.ts';

const MODEL = 'text-embedding-3-small';
const opened: OpenAiServer[] = [];
afterEach(async () => {
  for (const server of opened.splice(0)) await server.close();
});

async function setup(options: OpenAiServerOptions) {
  const clock = { nowMs: 1_000_000 };
  const server = await startOpenAiServer({ ...options, now: () => clock.nowMs });
  opened.push(server);

  async function call(
    key: string | null,
    input: string | string[] = 'one',
    headers: Record<string, string> = {},
  ) {
    const response = await fetch(`${server.url}/embeddings`, {
      method: 'POST',
      headers: { ...(key !== null && { authorization: `Bearer ${key}` }), ...headers },
      body: JSON.stringify({ model: MODEL, input }),
    });
    const { error } = (await response.json()) as { error: { message: string; type: string; code: string } };
    return { status: response.status, headers: response.headers, error };
  }
  return { server, clock, call };
}

describe('rate limits', () => {
  test('refuse a token too many in the words of OpenAI and say exactly when to come back', async () => {
    const { clock, call } = await setup({
      keys: [{ key: 'k', organization: 'org-x', tokensPerMinute: 1_000 }],
    });
    const texts = (tokens: number) => ['a'.repeat(tokens * 4)];

    const first = await call('k', texts(900));
    const second = await call('k', texts(200));

    expect(first.status).toBe(200);
    expect(Object.fromEntries(first.headers)).toMatchObject({
      'x-ratelimit-limit-tokens': '1000',
      'x-ratelimit-remaining-tokens': '100',
      'x-ratelimit-reset-tokens': '54s',
    });
    expect(second).toMatchObject({
      status: 429,
      error: { type: 'tokens', code: 'rate_limit_exceeded', param: null },
    });
    expect(second.error.message).toBe(
      `Rate limit reached for ${MODEL} in organization org-x on tokens per min (TPM): Limit 1000, Used 900, Requested 200. Please try again in 6s.`,
    );
    expect([second.headers.get('retry-after'), second.headers.get('retry-after-ms')]).toEqual(['6', '6000']);
    clock.nowMs += 5_999;
    expect((await call('k', texts(200))).status).toBe(429);
    clock.nowMs += 1;
    expect((await call('k', texts(200))).status).toBe(200);
  });

  test('refuse a request that is larger than the limit without a time to wait for', async () => {
    const { call } = await setup({ keys: [{ key: 'k', organization: 'org-x', tokensPerMinute: 1_000 }] });

    const { status, error, headers } = await call('k', 'a'.repeat(4_004));

    expect(status).toBe(429);
    expect(error.message).toMatch(/^Request too large for .* Limit 1000, Requested 1001\./);
    expect(headers.get('retry-after')).toBeNull();
  });

  test('count every failed request, and a refused one too, so that hammering does not help', async () => {
    const { clock, call } = await setup({ keys: [{ key: 'k', requestsPerMinute: 60, burstSeconds: 2 }] });

    expect((await call('k', '')).status).toBe(400);
    expect((await call('k')).status).toBe(200);
    const refused = await call('k');
    expect(refused).toMatchObject({ status: 429, error: { type: 'requests' } });
    expect(refused.headers.get('retry-after-ms')).toBe('1000');

    for (let i = 0; i < 3; i++) {
      clock.nowMs += 900;
      expect((await call('k')).status).toBe(429);
    }
    clock.nowMs += 1_000;
    expect((await call('k')).status).toBe(200);
  });

  test('are shared by the keys of one organisation and by nobody else', async () => {
    const keys = [
      { key: 'a', organization: 'org-x', requestsPerMinute: 1 },
      { key: 'b', organization: 'org-x' },
      { key: 'c', organization: 'org-y', requestsPerMinute: 1 },
    ];
    const { call } = await setup({ keys });

    expect((await call('a')).status).toBe(200);
    expect((await call('b')).status).toBe(429);
    expect((await call('c')).status).toBe(200);
  });

  test('change while the server runs, and keep what is left in a bucket', async () => {
    const { server, call } = await setup({
      keys: [{ key: 'k', organization: 'org-x', requestsPerMinute: 2 }],
    });
    await call('k');

    server.accounts.setLimits({ organization: 'org-x', requestsPerMinute: 100 });
    expect((await call('k')).headers.get('x-ratelimit-remaining-requests')).toBe('0');
    expect((await call('k')).status).toBe(429);
    server.accounts.setLimits({ organization: 'org-x', model: MODEL, requestsPerMinute: null });
    expect((await call('k')).status).toBe(200);
  });

  test('never let more through than the burst and what flows in, and always let through who waits as told', () => {
    const calls = fc.array(fc.record({ waitMs: fc.nat(20_000), tokens: fc.integer({ min: 1, max: 500 }) }));
    fc.assert(
      fc.property(calls, (steps) => {
        let nowMs = 0;
        let passed = 0;
        let passedTokens = 0;
        let buckets: Buckets = { requests: fullBucket(30, 60, nowMs), tokens: fullBucket(600, 60, nowMs) };
        for (const { waitMs, tokens } of steps) {
          nowMs += waitMs;
          const { after, refusal } = admit(buckets, tokens, nowMs);
          buckets = after;
          if (refusal === null) {
            passed += 1;
            passedTokens += tokens;
          } else {
            // One wait may end at the other limit; the second cannot.
            const retried = admit(after, tokens, nowMs + refusal.waitMs);
            const atMs = nowMs + refusal.waitMs + (retried.refusal?.waitMs ?? 0);
            const again = retried.refusal ? admit(retried.after, tokens, atMs).refusal : null;
            expect(again?.of === refusal.of ? again : null).toBeNull();
          }
          expect(passed).toBeLessThanOrEqual(30 + nowMs / 2_000);
          expect(passedTokens).toBeLessThanOrEqual(600 + nowMs / 100);
        }
      }),
    );
  });

  test.each([
    [12, '12ms'],
    [0, '0ms'],
    [2_812, '2.812s'],
    [360_000, '6m0s'],
    [3_600_500, '1h0m0.5s'],
  ])('write %i ms as %s', (ms, text) => {
    expect(formatDuration(ms)).toBe(text);
  });
});

describe('keys', () => {
  const known = { key: 'sk-proj-abcdefghijklmnopqrstuvwxyz', organization: 'org-x' };

  test('that are missing, unknown or revoked get 401, and the message shows their ends only', async () => {
    const { server, call } = await setup({ keys: [known] });
    const unknown = 'sk-proj-zyxwvutsrqponmlkjihgfedcba';

    expect((await call(null)).status).toBe(401);
    const { status, error } = await call(unknown);
    expect([status, error.code, error.type]).toEqual([401, 'invalid_api_key', 'invalid_request_error']);
    expect(error.message).toMatch(/^Incorrect API key provided: sk-proj-\*+dcba\. /);
    expect((await call(known.key)).status).toBe(200);
    server.accounts.setState(known.key, 'revoked');
    expect((await call(known.key)).error.code).toBe('invalid_api_key');
    server.accounts.setState(known.key, 'ok');
    server.accounts.remove(known.key);
    expect((await call(known.key)).status).toBe(401);
  });

  test.each([
    ['quota_exhausted', 429, 'insufficient_quota'],
    ['model_unavailable', 403, 'model_not_found'],
    ['ip_refused', 403, 'ip_not_authorized'],
  ] as const)('in state %s get %i %s until it is lifted', async (state, status, code) => {
    const { server, call } = await setup({ keys: [{ ...known, state }] });

    expect(await call(known.key)).toMatchObject({ status, error: { code } });
    server.accounts.setState(known.key, 'ok');
    expect((await call(known.key)).status).toBe(200);
  });

  test('with the header of another organisation get 401', async () => {
    const { call } = await setup({ keys: [known] });

    const { status, error } = await call(known.key, 'one', { 'openai-organization': 'org-other' });

    expect([status, error.code]).toEqual([401, 'mismatched_organization']);
  });

  test('of any kind get in when all are accepted, each as an organisation of its own with the usual limits', async () => {
    const { call } = await setup({ acceptAnyKey: true, defaultLimits: { requestsPerMinute: 1 } });

    const [a, b] = [await call('a'), await call('b')];

    expect([a.status, b.status, (await call('a')).status]).toEqual([200, 200, 429]);
    expect(a.headers.get('openai-organization')).not.toBe(b.headers.get('openai-organization'));
  });
});
