import { describe, expect, test } from 'vitest';
import { reserveSoon } from '../../src/pacing/wait.ts';
import { SMALL, usePacer } from '../support/pacer.ts';
import { credentialOf, MODEL, NO_LIMITS } from '../support/pacing.ts';

const setup = usePacer();

describe('an outage', () => {
  async function fail(times: number, credential = credentialOf('one')) {
    const reservations = [];
    for (let time = 0; time < times; time++) reservations.push(await setup.go(credential));
    const answers = [];
    for (const reservation of reservations) answers.push(await setup.pacer.failed(reservation));
    return answers;
  }

  test('at the first failure one caller is to find out whose fault it is', async () => {
    const answers = await fail(3);
    expect(answers.map(({ next }) => next)).toEqual(['probe', 'wait', 'wait']);
  });

  test('after five failures in a row nobody goes for 30 s, and then one probes', async () => {
    await fail(5);
    expect(await setup.pacer.reserve(credentialOf('one'), MODEL, SMALL)).toMatchObject({
      because: 'breaker',
      waitMs: 30_000,
    });
    expect(await setup.pacer.stateOf(credentialOf('one'), MODEL)).toMatchObject({
      breaker: 'open',
      failures: 5,
    });
    await setup.pass(30_000);

    const pacers = Array.from({ length: 20 }, setup.newPacer);
    const answers = await Promise.all(pacers.map((each) => each.reserve(credentialOf('one'), MODEL, SMALL)));

    const because = answers.map((answer) => (answer.go ? 'go' : answer.because));
    expect(because.filter((reason) => reason === 'probe')).toHaveLength(1);
    expect(because.filter((reason) => reason === 'probe_in_flight')).toHaveLength(19);
    expect((await setup.pacer.stateOf(credentialOf('one'), MODEL)).breaker).toBe('half_open');
  });

  test('a bad probe waits twice as long, a good one lets everybody go', async () => {
    await fail(5);
    await setup.pass(30_000);
    expect(await setup.pacer.reserve(credentialOf('one'), MODEL, SMALL)).toMatchObject({ because: 'probe' });
    expect(await setup.pacer.probed(credentialOf('one'), MODEL, false)).toEqual({ waitMs: 60_000 });
    await setup.pass(60_000);
    expect(await setup.pacer.reserve(credentialOf('one'), MODEL, SMALL)).toMatchObject({ because: 'probe' });

    expect(await setup.pacer.probed(credentialOf('one'), MODEL, true)).toEqual({ waitMs: 0 });

    await expect(setup.go(credentialOf('one'))).resolves.toMatchObject({ go: true });
  });

  test('a prober that died is replaced after 90 s', async () => {
    await fail(5);
    await setup.pass(30_000);
    await setup.pacer.reserve(credentialOf('one'), MODEL, SMALL);
    await setup.pass(89_999);
    expect(await setup.pacer.reserve(credentialOf('one'), MODEL, SMALL)).toMatchObject({
      because: 'probe_in_flight',
    });
    await setup.pass(1);

    expect(await setup.pacer.reserve(credentialOf('one'), MODEL, SMALL)).toMatchObject({ because: 'probe' });
  });

  test('of one account leaves the others alone', async () => {
    await fail(5);
    await expect(setup.go(credentialOf('other'))).resolves.toMatchObject({ go: true });
  });
});

describe('reserveSoon', () => {
  const signal = new AbortController().signal;

  test('hands a long wait back at once', async () => {
    const credential = credentialOf('one');
    await setup.pacer.refused(await setup.go(credential), { retryAfterMs: 30_000, limits: NO_LIMITS });

    expect(await reserveSoon(setup.pacer, credential, MODEL, SMALL, signal)).toMatchObject({
      because: 'cooldown',
    });
  });

  test('gives the place back when it is aborted while it sleeps', async () => {
    const credential = credentialOf('one', { requestsPerMinute: 120 });
    await setup.go(credential);
    await setup.go(credential);
    const stopping = new AbortController();

    const waiting = reserveSoon(setup.pacer, credential, MODEL, SMALL, stopping.signal);
    await expect
      .poll(async () => Number(await setup.redis.hget(await fixedKey(), 'requests')))
      .toBeLessThan(0);
    stopping.abort(new Error('shutting down'));

    await expect(waiting).rejects.toThrow('shutting down');
    expect(Number(await setup.redis.hget(await fixedKey(), 'requests'))).toBeGreaterThanOrEqual(0);
  });

  async function fixedKey(): Promise<string> {
    return (await setup.redis.keys('{infill}:fixed:*'))[0] ?? '';
  }
});
