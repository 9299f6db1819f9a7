import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Account, openAccount } from '../../src/core/account.ts';
import { fail, passGate, probed } from '../../src/core/breaker.ts';
import { fixedRates, openFixed } from '../../src/core/fixed-limits.ts';
import { settle } from '../../src/core/pacing.ts';
import { NO_LIMITS, rules, takenAt } from '../support/pacing.ts';

describe('the breaker', () => {
  function failing(times: number, nowMs = 0): Account {
    let account = openAccount(0, rules, 'tier');
    for (let time = 0; time < times; time++)
      account = fail(account, null, { takenMs: 0 }, nowMs, rules).account;
    return account;
  }

  test('opens at the fifth failure in a row, and not before', () => {
    expect(passGate(failing(4), null, 0, rules).gate).toBeNull();
    expect(passGate(failing(5), null, 0, rules).gate).toEqual({ because: 'breaker', waitMs: 30_000 });
  });

  test('a success in between begins the count anew', () => {
    const settled = settle(failing(4), takenAt(0, failing(4)), { tokens: 1, limits: NO_LIMITS }, rules);
    expect(passGate(fail(settled, null, { takenMs: 0 }, 0, rules).account, null, 0, rules).gate).toBeNull();
  });

  test('stays open twice as long after each bad probe, at most 5 minutes', () => {
    let account = failing(5);
    const opened = [];
    for (let time = 0; time < 6; time++) {
      const nowMs = account.openUntilMs;
      account = probed(passGate(account, null, nowMs, rules).account, false, nowMs, rules).account;
      opened.push((account.openUntilMs - nowMs) / 1_000);
    }
    expect(opened).toEqual([60, 120, 240, 300, 300, 300]);
  });

  test('closes after a good probe', () => {
    const { account } = probed(failing(5), true, 30_000, rules);
    expect(passGate(account, null, 30_000, rules).gate).toBeNull();
  });

  test('a probe that began before it opened does not keep it open for longer', () => {
    const account = failing(5, 1_000);
    expect(probed(account, false, 2_000, rules)).toMatchObject({ waitMs: 29_000 });
  });

  test('takes a probe from every bucket, and has it sent when a fixed limit of requests has room', () => {
    const rates = fixedRates({ requestsPerMinute: 1, tokensPerMinute: 1_000 });
    if (rates === null) throw new Error('limits were given');
    const levels = openFixed(0, rates);
    const before = failing(1);
    const idle = { ...before, probeUntilMs: 0 };

    const atOnce = fail(idle, { rates, levels }, { takenMs: 0 }, 0, rules);
    const later = fail(idle, { rates, levels: { ...levels, requests: 0 } }, { takenMs: 0 }, 0, rules);

    expect(atOnce).toMatchObject({ next: 'probe', waitMs: 0 });
    expect(atOnce.account).toMatchObject({
      requests: { level: before.requests.level - 1 },
      tokens: { level: before.tokens.level - 1 },
    });
    expect(atOnce.fixed?.levels).toMatchObject({ requests: 0, tokens: levels.tokens - 1 });
    // As long as a fixed limit of one request takes to have room for the next.
    expect(later.next).toBe('probe');
    expect(Math.abs(later.waitMs - 61_000)).toBeLessThanOrEqual(1);
    expect(later.account.probeUntilMs).toBe(later.waitMs + rules.probeMs);
  });

  test('never has two callers probe at the same time', () => {
    const event = fc.oneof(
      { weight: 4, arbitrary: fc.constant('ask' as const) },
      { weight: 4, arbitrary: fc.constant('fail' as const) },
      { weight: 1, arbitrary: fc.constantFrom('good' as const, 'bad' as const) },
    );
    const events = fc.array(fc.tuple(fc.integer({ min: 0, max: 40_000 }), event), { maxLength: 100 });
    fc.assert(
      fc.property(events, (steps) => {
        let account = openAccount(0, rules, 'tier');
        let nowMs = 0;
        let probingSinceMs: number | null = null;
        for (const [elapsedMs, what] of steps) {
          nowMs += elapsedMs;
          let told = false;
          if (what === 'ask') {
            const passed = passGate(account, null, nowMs, rules);
            account = passed.account;
            told = passed.gate?.because === 'probe';
          } else if (what === 'fail') {
            const failed = fail(account, null, { takenMs: 0 }, nowMs, rules);
            account = failed.account;
            told = failed.next === 'probe';
            // Opening calls off the probe of a closed breaker: nobody needs its answer any more.
            if (account.openUntilMs > nowMs) probingSinceMs = null;
          } else if (probingSinceMs !== null) {
            account = probed(account, what === 'good', nowMs, rules).account;
            probingSinceMs = null;
          }
          if (!told) continue;
          if (probingSinceMs !== null) expect(nowMs - probingSinceMs).toBeGreaterThanOrEqual(rules.probeMs);
          probingSinceMs = nowMs;
        }
      }),
    );
  });
});
