import { describe, expect, test } from 'vitest';
import { LIMITS, SMALL, usePacer } from '../support/pacer.ts';
import { CLOCK, credentialOf, MODEL } from '../support/pacing.ts';

const setup = usePacer();
const heard = (organization: string | null, limits = LIMITS) => ({ tokens: 100, limits, organization });

describe('accounts', () => {
  test('keys of one organisation share a budget, also in another process', async () => {
    const [one, other] = [credentialOf('one'), credentialOf('other')];
    await setup.pacer.settled(await setup.go(one), heard('org-a'));
    await setup.pacer.settled(await setup.go(other), heard('org-a'));
    const elsewhere = setup.newPacer();

    const { granted } = await setup.drain(one);

    expect(granted.length).toBeGreaterThan(50);
    expect(await elsewhere.reserve(other, MODEL, SMALL)).toMatchObject({ go: false, because: 'requests' });
  });

  test('keys of different organisations do not touch each other', async () => {
    const [one, other] = [credentialOf('one'), credentialOf('other')];
    await setup.pacer.settled(await setup.go(one), heard('org-a'));
    await setup.pacer.settled(await setup.go(other), heard('org-b'));
    await setup.drain(one);

    await expect(setup.go(other)).resolves.toMatchObject({ go: true });
  });

  test('the organisation begins with what its first answer told', async () => {
    await setup.pacer.settled(await setup.go(credentialOf('one')), heard('org-a'));

    expect(await setup.pacer.stateOf(credentialOf('one'), MODEL)).toMatchObject({
      limits: { requestsPerMinute: 60, tokensPerMinute: 60_000 },
      breaker: 'closed',
    });
  });

  test('another model is another account', async () => {
    await setup.pacer.settled(await setup.go(credentialOf('one')), heard('org-a'));
    await setup.drain(credentialOf('one'));

    expect(await setup.pacer.reserve(credentialOf('one'), 'text-embedding-3-large', SMALL)).toMatchObject({
      go: true,
    });
  });

  test('a Redis that was emptied is filled again, and late answers do no harm', async () => {
    const credential = credentialOf('one');
    const before = await setup.go(credential);
    await setup.redis.flushdb();
    await setup.pass(1_000);

    await setup.pacer.settled(before, heard('org-a'));
    await setup.pacer.settled(await setup.go(credential), heard('org-a'));

    expect((await setup.pacer.stateOf(credential, MODEL)).limits.requestsPerMinute).toBe(60);
  });

  test('a Redis that lost its scripts gets them again', async () => {
    await setup.go(credentialOf('one'));
    await setup.redis.script('FLUSH');

    await expect(setup.go(credentialOf('one'))).resolves.toMatchObject({ go: true });
  });

  test('Redis holds no key, no organisation and no key without an end', async () => {
    const credential = credentialOf('one', { organization: 'org-sent', requestsPerMinute: 2 });
    await setup.pacer.settled(await setup.go(credential), heard('org-secret'));
    await setup.drain(credential);
    await setup.pacer.reserve(credential, MODEL, { ...SMALL, waiter: 'job-1' });
    await setup.pacer.refused(await setup.go(credentialOf('other')), { retryAfterMs: 1_000, limits: LIMITS });
    await setup.redis.del(CLOCK);

    const keys = await setup.redis.keys('*');
    expect(keys.length).toBeGreaterThan(4);
    for (const key of keys) {
      expect(key).toMatch(/^\{infill\}:/);
      expect(await setup.redis.pttl(key), key).toBeGreaterThan(0);
      const held = key + (await setup.redis.dump(key));
      expect(held).not.toMatch(/sk-secret|org-s/);
    }
  });
});

describe('reservations', () => {
  test('a released place is free again, and releasing twice frees it once', async () => {
    const credential = credentialOf('one', { requestsPerMinute: 1 });
    const reservation = await setup.go(credential);
    expect(await setup.pacer.reserve(credential, MODEL, SMALL)).toMatchObject({
      go: false,
      because: 'requests',
    });

    await setup.pacer.released(reservation);
    await setup.pacer.released(reservation);

    await setup.go(credential);
    expect(await setup.pacer.reserve(credential, MODEL, SMALL)).toMatchObject({ go: false });
  });

  test('releasing what was settled frees nothing', async () => {
    const credential = credentialOf('one', { requestsPerMinute: 1 });
    const reservation = await setup.go(credential);
    await setup.pacer.settled(reservation, heard(null));

    await setup.pacer.released(reservation);

    expect(await setup.pacer.reserve(credential, MODEL, SMALL)).toMatchObject({
      go: false,
      because: 'requests',
    });
  });

  test('a fixed limit holds for the word that is sent after a failure, too', async () => {
    const credential = credentialOf('one', { requestsPerMinute: 1 });

    const { next, waitMs } = await setup.pacer.failed(await setup.go(credential));

    expect(next).toBe('probe');
    expect(waitMs).toBeGreaterThan(60_000);
    await setup.pass(waitMs);
    await setup.pacer.probed(credential, MODEL, true);
    // The word took this turn: the next request has the one after.
    expect(await setup.pacer.reserve(credential, MODEL, SMALL)).toMatchObject({
      go: false,
      because: 'requests',
    });
    await setup.pass(waitMs);
    await setup.go(credential);
  });

  test('places of workers that died cost what they took, and nothing for ever', async () => {
    const credential = credentialOf('one');
    await setup.pacer.settled(await setup.go(credential), heard(null));
    await setup.drain(credential);
    await setup.pass(60_000);

    const { granted } = await setup.drain(credential);

    expect(granted.length).toBeGreaterThan(55);
  });

  test('a reservation carries no key', async () => {
    expect(JSON.stringify(await setup.go(credentialOf('one')))).not.toContain('sk-secret');
  });

  test('requests are to be packed to a quarter of a minute, and to what a fixed limit takes at once', async () => {
    const credential = credentialOf('one');
    await setup.pacer.settled(await setup.go(credential), heard(null));

    expect(await setup.pacer.requestMax(credential, MODEL)).toMatchObject({ requestTokensMax: 15_000 });
    expect(await setup.pacer.requestMax({ ...credential, tokensPerMinute: 1_000 }, MODEL)).toMatchObject({
      requestTokensMax: 500,
    });
  });
});

describe('the line', () => {
  test('who asked first goes first, and the others are told times that are spread', async () => {
    const credential = credentialOf('one');
    await setup.pacer.settled(await setup.go(credential), heard(null));
    await setup.drain(credential);
    const ask = (waiter: string) => setup.pacer.reserve(credential, MODEL, { ...SMALL, waiter });

    const waits = [];
    for (const waiter of ['a', 'b', 'c', 'd']) waits.push((await ask(waiter)).waitMs);
    await setup.pass(1_500);

    expect(waits).toEqual(waits.toSorted((one, other) => one - other));
    expect(new Set(waits).size).toBe(4);
    expect(await ask('late')).toMatchObject({ go: false });
    expect(await ask('d')).toMatchObject({ go: false });
    expect(await ask('a')).toMatchObject({ go: true });
    expect((await setup.pacer.stateOf(credential, MODEL)).waiters).toBe(4);
  });

  test('who never comes back loses its place', async () => {
    const credential = credentialOf('one');
    await setup.pacer.settled(await setup.go(credential), heard(null));
    await setup.drain(credential);
    for (const waiter of ['a', 'b', 'c']) await setup.pacer.reserve(credential, MODEL, { ...SMALL, waiter });
    await setup.pass(20_000);

    expect((await setup.pacer.stateOf(credential, MODEL)).waiters).toBe(0);
  });

  test('who leaves it makes room for those behind', async () => {
    const credential = credentialOf('one');
    await setup.pacer.settled(await setup.go(credential), heard(null));
    await setup.drain(credential);
    const ask = (waiter: string) => setup.pacer.reserve(credential, MODEL, { ...SMALL, waiter });
    for (const waiter of ['a', 'b', 'c']) await ask(waiter);

    for (const waiter of ['a', 'b', 'a', 'nobody'])
      await setup.pacer.left(credential, MODEL, { ...SMALL, waiter });
    await setup.pass(1_500);

    expect((await setup.pacer.stateOf(credential, MODEL)).waiters).toBe(1);
    expect(await ask('c')).toMatchObject({ go: true });
  });

  test('a large request is not starved by small ones', async () => {
    const credential = credentialOf('one');
    await setup.pacer.settled(await setup.go(credential), heard(null));
    await setup.pacer.reserve(credential, MODEL, { inputs: 1, bytes: 160_000 });
    const large = { inputs: 10, bytes: 40_000, waiter: 'large' };
    const first = await setup.pacer.reserve(credential, MODEL, large);
    expect(first.go).toBe(false);

    let turnMs = setup.nowMs + first.waitMs;
    for (let small = 0; small < 200; small++) {
      await setup.pass(250);
      await setup.pacer.reserve(credential, MODEL, { inputs: 1, bytes: 1_500, waiter: `small-${small}` });
      if (setup.nowMs < turnMs) continue;
      const again = await setup.pacer.reserve(credential, MODEL, large);
      if (again.go) return;
      turnMs = setup.nowMs + again.waitMs;
    }
    throw new Error('the large request never went');
  });

  test('who is held by a limit of its own does not stand before others', async () => {
    const [fixed, free] = [credentialOf('one', { requestsPerMinute: 1 }), credentialOf('other')];
    for (const credential of [fixed, free])
      await setup.pacer.settled(await setup.go(credential), heard('org-a'));
    for (let job = 0; job < 50; job++)
      await setup.pacer.reserve(fixed, MODEL, { ...SMALL, waiter: `job-${job}` });

    expect((await setup.drain(free)).granted.length).toBeGreaterThan(50);
  });
});
