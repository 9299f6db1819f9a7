/** What Redis does in Lua, the core says in TypeScript: here both take the same steps and must agree to the last bit. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Account, openAccount } from '../../src/core/account.ts';
import { fail, probed } from '../../src/core/breaker.ts';
import type { Credential } from '../../src/core/credential.ts';
import { drawFixed, type Fixed, fixedRates, openFixed, refillFixed } from '../../src/core/fixed-limits.ts';
import { giveBack, refill, refuse, settle, type Taken } from '../../src/core/pacing.ts';
import { pacingRules } from '../../src/core/pacing-rules.ts';
import type { ProviderLimits } from '../../src/core/provider-limits.ts';
import { reserve } from '../../src/core/reservation.ts';
import { accountKeyOf, holderKeyOf } from '../../src/pacing/account-key.ts';
import { createPacer, type Reservation } from '../../src/pacing/pacer.ts';
import { CLOCK, credentialOf, MODEL, NO_LIMITS, START_MS } from '../support/pacing.ts';
import { useRedis } from '../support/redis.ts';

const NOBODY = { requests: 0, tokens: 0, inFlight: 0 };
const rules = pacingRules();

const store = useRedis();
let accounts = 0;

const limitsOf: fc.Arbitrary<ProviderLimits> = fc
  .record({
    requestsLimit: fc.constantFrom(null, 60, 60, 3_000),
    tokensLimit: fc.constantFrom(null, 60_000, 1_000_000, 1_000_000, 5_000_000),
    requestsLeft: fc.option(fc.double({ min: 0, max: 1, noNaN: true })),
    tokensLeft: fc.option(fc.double({ min: 0, max: 1, noNaN: true })),
  })
  .map(({ requestsLimit, tokensLimit, requestsLeft, tokensLeft }) => ({
    requestsLimit,
    requestsRemaining: requestsLeft === null ? null : Math.floor((requestsLimit ?? 60) * requestsLeft),
    requestsResetMs: null,
    tokensLimit,
    tokensRemaining: tokensLeft === null ? null : Math.floor((tokensLimit ?? 60_000) * tokensLeft),
    tokensResetMs: null,
  }));

const silent = fc.constant(NO_LIMITS);
const size = fc.record({
  inputs: fc.integer({ min: 1, max: 50 }),
  bytes: fc.integer({ min: 1, max: 300_000 }),
});
const pick = fc.nat();
const retryAfterMs = fc.oneof(
  fc.integer({ min: 0, max: 90_000 }),
  fc.integer({ min: 3_000_000, max: 9_000_000 }),
);
const stepsWith = (limits: fc.Arbitrary<ProviderLimits>) => ({
  reserve: fc.record({ op: fc.constant('reserve' as const), size }),
  settle: fc.record({
    op: fc.constant('settle' as const),
    pick,
    tokens: fc.option(fc.integer({ min: 0, max: 300_000 })),
    limits,
  }),
  refuse: fc.record({ op: fc.constant('refuse' as const), pick, retryAfterMs, limits }),
  release: fc.record({ op: fc.constant('release' as const), pick }),
  fail: fc.record({ op: fc.constant('fail' as const), pick }),
  probed: fc.record({ op: fc.constant('probed' as const), ok: fc.boolean() }),
  flush: fc.record({ op: fc.constant('flush' as const) }),
});
const after = (elapsedMsMax: number) => fc.oneof(fc.constant(0), fc.integer({ min: 0, max: elapsedMsMax }));
const timed = <T>(elapsedMsMax: number, step: fc.Arbitrary<T>) => fc.tuple(after(elapsedMsMax), step);

/** Work goes on, now and then something goes wrong. */
function calm(limits: fc.Arbitrary<ProviderLimits>) {
  const steps = stepsWith(limits);
  const step = fc.oneof(
    { weight: 30, arbitrary: steps.reserve },
    { weight: 20, arbitrary: steps.settle },
    { weight: 3, arbitrary: steps.refuse },
    { weight: 2, arbitrary: steps.release },
    { weight: 2, arbitrary: steps.fail },
    { weight: 1, arbitrary: steps.flush },
  );
  return fc.array(timed(3_000, step), { minLength: 40, maxLength: 100 });
}

/** Hardly anything succeeds, and much time passes. */
function storm(limits: fc.Arbitrary<ProviderLimits>) {
  const steps = stepsWith(limits);
  const step = fc.oneof(
    { weight: 8, arbitrary: steps.reserve },
    { weight: 6, arbitrary: steps.fail },
    { weight: 6, arbitrary: fc.record({ op: fc.constant('probed' as const), ok: fc.constant(false) }) },
    { weight: 3, arbitrary: steps.refuse },
    { weight: 1, arbitrary: steps.probed },
    { weight: 1, arbitrary: steps.settle },
  );
  return fc.array(timed(400_000, step), { minLength: 20, maxLength: 60 });
}

const history = fc.oneof(calm(limitsOf), calm(silent), storm(limitsOf));
const limit = (max: number) => fc.option(fc.integer({ min: 1, max }));

test('Lua and TypeScript agree on every answer and every number, whatever happens', async () => {
  await fc.assert(
    fc.asyncProperty(
      limit(6_000),
      limit(2_000_000),
      fc.constantFrom('https://api.openai.com/v1', 'https://vllm.example.com/v1'),
      history,
      async (requestsPerMinute, tokensPerMinute, baseUrl, history) => {
        const limits = { requestsPerMinute, tokensPerMinute };
        const credential = credentialOf(`key-${++accounts}`, { ...limits, baseUrl });
        const pacer = createPacer(store.redis, { rules, clockKey: CLOCK, random: () => 0 });
        const model = createModel(credential);
        const open: Reservation[] = [];
        let nowMs = START_MS;

        for (const [elapsedMs, action] of history) {
          nowMs += elapsedMs;
          await store.redis.set(CLOCK, nowMs);
          const reservation =
            'pick' in action ? open.splice(action.pick % Math.max(1, open.length), 1)[0] : undefined;
          if ('pick' in action && reservation === undefined) continue;

          if (action.op === 'reserve') {
            const answer = await pacer.reserve(credential, MODEL, action.size);
            expect(answer).toMatchObject(model.reserve(nowMs, action.size));
            if (answer.go) open.push(answer);
          } else if (action.op === 'flush') {
            await store.redis.flushdb();
            model.forget();
          } else if (action.op === 'probed') {
            const answer = await pacer.probed(credential, MODEL, action.ok);
            expect(answer).toEqual(model.probed(nowMs, action.ok));
          } else if (reservation !== undefined) {
            if (action.op === 'settle') {
              await pacer.settled(reservation, { ...action, organization: null });
              model.settle(nowMs, reservation.taken, action.tokens, action.limits);
            } else if (action.op === 'refuse') {
              await pacer.refused(reservation, action);
              model.refuse(nowMs, reservation.taken, action.retryAfterMs, action.limits);
            } else if (action.op === 'release') {
              await pacer.released(reservation);
              model.release(nowMs, reservation.taken);
            } else {
              expect(await pacer.failed(reservation)).toEqual(model.fail(nowMs, reservation.taken));
            }
          }
          expect(await stateIn(credential)).toEqual(model.state());
        }
      },
    ),
    // Without shrinking, which takes longer than the test may: the seed and the path lead back to the failure.
    { numRuns: 75, endOnFailure: true },
  );
}, 120_000);

/** The account as the core would have it. */
function createModel(credential: Credential) {
  const rates = fixedRates(credential);
  let account: Account | null = null;
  let fixed: Fixed | null = null;
  /** By number of the request, when it is taken to be lost. */
  const flights = new Map<number, number>();
  const start = credential.baseUrl.includes('openai.com') ? 'tier' : 'search';
  const stated = {
    requests: credential.requestsPerMinute !== null,
    tokens: credential.tokensPerMinute !== null,
  };

  function at(nowMs: number): Account {
    if (account === null) flights.clear();
    account = refill(account ?? openAccount(nowMs, rules, start), nowMs, rules);
    return account;
  }
  function inFlightAt(nowMs: number): number {
    for (const [number, lostMs] of flights) if (lostMs <= nowMs) flights.delete(number);
    return flights.size;
  }
  function land(nowMs: number, taken: Taken): void {
    const { bornMs, search } = at(nowMs);
    if (search.concurrency > 0 && taken.takenMs >= bornMs) flights.delete(taken.requestsTaken);
  }
  function fixedAt(nowMs: number): Fixed | null {
    fixed = rates && { rates, levels: refillFixed(fixed?.levels ?? openFixed(nowMs, rates), nowMs, rates) };
    return fixed;
  }

  /** Corrects the credential's own buckets, unless they were lost since. */
  function correct(nowMs: number, taken: Taken, requests: number, tokens: number): void {
    const held = fixedAt(nowMs);
    const ours = account !== null && taken.takenMs >= account.bornMs;
    if (held && ours) fixed = { ...held, levels: drawFixed(held.levels, requests, tokens) };
  }

  return {
    reserve(nowMs: number, size: { inputs: number; bytes: number }) {
      const ahead = { ...NOBODY, inFlight: at(nowMs).search.concurrency > 0 ? inFlightAt(nowMs) : 0 };
      const decided = reserve(at(nowMs), fixedAt(nowMs), size, ahead, nowMs, rules, stated);
      ({ account, fixed } = decided);
      if (decided.answer.go && account.search.concurrency > 0) {
        const { requestsTaken, sendMs } = decided.answer.taken;
        flights.set(requestsTaken, sendMs + rules.search.flightMsMax);
      }
      return decided.answer;
    },
    settle(nowMs: number, taken: Taken, tokens: number | null, limits: ProviderLimits) {
      land(nowMs, taken);
      account = settle(at(nowMs), taken, { tokens, limits }, rules);
      correct(nowMs, taken, 0, tokens === null ? 0 : tokens - taken.tokens);
    },
    refuse(nowMs: number, taken: Taken, retryAfterMs: number, limits: ProviderLimits) {
      land(nowMs, taken);
      account = refuse(at(nowMs), taken, { retryAfterMs, limits }, rules);
      fixedAt(nowMs);
    },
    release(nowMs: number, taken: Taken) {
      land(nowMs, taken);
      account = giveBack(at(nowMs), taken);
      correct(nowMs, taken, -1, -taken.tokens);
    },
    fail(nowMs: number, taken: Taken) {
      land(nowMs, taken);
      const { account: next, fixed: drawn, ...answer } = fail(at(nowMs), fixedAt(nowMs), taken, nowMs, rules);
      account = next;
      fixed = drawn;
      return answer;
    },
    probed(nowMs: number, ok: boolean) {
      const { account: next, ...answer } = probed(at(nowMs), ok, nowMs, rules);
      account = next;
      return answer;
    },
    forget() {
      account = null;
      fixed = null;
    },
    state: () => ({ account, fixed: fixed?.levels ?? null }),
  };
}

async function stateIn(credential: Credential) {
  const fields = await store.redis.hgetall(`{infill}:account:${accountKeyOf(credential, MODEL, null)}`);
  const account: Record<string, unknown> = { requests: {}, tokens: {}, search: {} };
  for (const [name, value] of Object.entries(fields)) {
    const [kind = '', field] = name.split('.');
    if (field === undefined) account[name] = Number(value);
    else (account[kind] as Record<string, number>)[field] = Number(value);
  }
  // The line of waiters is Redis's alone; nobody waits here.
  delete account.waiting;
  const { atMs, requests, tokens } = await store.redis.hgetall(`{infill}:fixed:${holderKeyOf(credential)}`);
  const fixed = atMs && { atMs: Number(atMs), requests: Number(requests), tokens: Number(tokens) };
  return { account: 'bornMs' in account ? account : null, fixed: fixed || null };
}
