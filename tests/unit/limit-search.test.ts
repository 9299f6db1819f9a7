import { describe, expect, test } from 'vitest';
import { type Account, openAccount } from '../../src/core/account.ts';
import { statedLimits } from '../../src/core/credential.ts';
import { type Search, UNBOUNDED } from '../../src/core/limit-search.ts';
import { refill, refuse, settle } from '../../src/core/pacing.ts';
import { type Answer, reserve } from '../../src/core/reservation.ts';
import { NO_LIMITS, rules, takenAt } from '../support/pacing.ts';

const SIZE = { inputs: 10, bytes: 3_000 };

/** Callers without end, and a provider that answers after `latencyMsOf` the number of requests on their way. */
function work(latencyMsOf: (inFlight: number) => number, forMs: number): { account: Account; most: number } {
  let account = openAccount(0, rules, 'search');
  const answers: { atMs: number; answer: Answer & { go: true } }[] = [];
  let most = 0;
  for (let nowMs = 0; nowMs < forMs; nowMs += 5) {
    account = refill(account, nowMs, rules);
    for (const due of answers.filter(({ atMs }) => atMs <= nowMs)) {
      answers.splice(answers.indexOf(due), 1);
      account = settle(account, due.answer.taken, { tokens: 700, limits: NO_LIMITS }, rules);
    }
    // As many callers as a worker of 64 slots has.
    while (answers.length < 64) {
      const ahead = { requests: 0, tokens: 0, inFlight: answers.length };
      const decided = reserve(account, null, SIZE, ahead, nowMs, rules);
      account = decided.account;
      const { answer } = decided;
      if (!answer.go || answer.waitMs > 0) break;
      answers.push({ atMs: nowMs + latencyMsOf(answers.length + 1), answer });
      most = Math.max(most, answers.length);
    }
  }
  return { account, most };
}

describe('an account whose provider tells no limits', () => {
  test('begins with four requests at once', () => {
    expect(work(() => 1_000, 900).most).toBe(4);
  });

  test('doubles that each round while answers come as quickly as before', () => {
    const { account, most } = work(() => 100, 2_000);

    expect(most).toBe(64);
    expect(account.requests.perMinute).toBe(UNBOUNDED);
  });

  test('stays at what the provider can do when more at once only take longer', () => {
    // Eight at a time: whoever comes on top of them waits.
    const { account } = work((inFlight) => 200 * Math.max(1, inFlight / 8), 20_000);

    expect(account.search.concurrency).toBeGreaterThanOrEqual(8);
    expect(account.search.concurrency).toBeLessThanOrEqual(16);
  });

  test('is asked for half as much at once when it fails, and its refusals with no answer in between wait longer', () => {
    const first = openAccount(0, rules, 'search');
    const refusal = { retryAfterMs: 1_000, limits: NO_LIMITS };
    const once = refuse(refill(first, 10, rules), takenAt(5, first), refusal, rules);
    const twice = refuse(refill(once, 2_000, rules), takenAt(1_500, once), refusal, rules);
    const thrice = refuse(refill(twice, 6_000, rules), takenAt(5_000, twice), refusal, rules);

    expect(once.cooldownUntilMs).toBe(1_010);
    expect(twice.cooldownUntilMs).toBe(4_000);
    expect(thrice.cooldownUntilMs).toBe(10_000);
    expect(thrice.requests.perMinute).toBe(UNBOUNDED);
  });

  test('has its rate set by its first refusal to half of what was accepted until then', () => {
    const search: Search = { ...openAccount(0, rules, 'search').search, requests: 100, tokens: 50_000 };
    const account = refill({ ...openAccount(0, rules, 'search'), search }, 10_000, rules);
    const refused = refuse(account, takenAt(9_000, account), { retryAfterMs: 0, limits: NO_LIMITS }, rules);

    expect(refused.requests.perMinute).toBe(300);
    expect(refused.tokens.perMinute).toBe(150_000);
  });

  test('ends its search when both limits are told', () => {
    const account = openAccount(0, rules, 'search');
    const limits = { ...NO_LIMITS, requestsLimit: 600, tokensLimit: 1_000_000 };
    const told = settle(account, takenAt(0, account), { tokens: 700, limits }, rules);

    expect(told.search.concurrency).toBe(0);
    expect(told.requests.perMinute).toBeCloseTo(588);
  });
});

describe('limits that the operator states', () => {
  test('stand in for the guess, until the provider refuses', () => {
    const stated = { requests: true, tokens: true };
    const crowd = { requests: 0, tokens: 0, inFlight: 500 };
    const account = openAccount(0, rules, 'search');
    const free = reserve(account, null, SIZE, crowd, 0, rules, stated);
    const refused = refuse(account, takenAt(0, account), { retryAfterMs: 2_000, limits: NO_LIMITS }, rules);
    const after = reserve({ ...refused, changedMs: 1 }, null, SIZE, crowd, 5_000, rules, stated);

    expect(free.answer).toMatchObject({ go: true, waitMs: 0 });
    expect(after.answer.go).toBe(false);
  });

  test("are a tenant's own before the target's, and the target's before the platform's", () => {
    const own = { requestsPerMinute: 10, tokensPerMinute: null };
    const target = { requestsPerMinute: 'unlimited' as const, tokensPerMinute: 500 };

    expect(statedLimits('tenant', own, target)).toEqual({ requestsPerMinute: 10, tokensPerMinute: 500 });
    expect(statedLimits('platform', own, target)).toEqual({
      requestsPerMinute: 'unlimited',
      tokensPerMinute: 500,
    });
    expect(statedLimits('platform', own, {})).toEqual(own);
  });
});
