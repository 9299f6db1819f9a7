import { describe, expect, test } from 'vitest';
import { KeyGate } from '../../src/backfill/key-gate.ts';
import { EmbedError } from '../../src/core/failures.ts';

/** Calls through a gate that a test answers one by one. */
function setup() {
  const gate = new KeyGate();
  const calls: { key: string; answer: (value: string) => void; fail: (error: Error) => void }[] = [];
  const good: string[] = [];
  const pass = (key: string, tenantId = 'acme') =>
    gate.pass(
      key,
      tenantId,
      () => new Promise<string>((answer, fail) => void calls.push({ key, answer, fail })),
      async () => void good.push(`${key} of ${tenantId}`),
    );
  /** Lets everything that can go on go on. */
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  return { gate, pass, calls, good, turn };
}

const outcome = (promise: Promise<string>) =>
  promise.then(
    (value) => value,
    (error: Error) => (error instanceof EmbedError ? error.code : error.message),
  );

describe('the first call with a key', () => {
  test('goes alone; the others follow at once when it was answered', async () => {
    const { pass, calls, turn } = setup();
    const passed = ['k', 'k', 'k'].map((key) => outcome(pass(key)));
    await turn();
    expect(calls).toHaveLength(1);

    calls[0]?.answer('first');
    await turn();
    expect(calls).toHaveLength(3);

    for (const call of calls.slice(1)) call.answer('later');
    expect(await Promise.all(passed)).toEqual(['first', 'later', 'later']);
  });

  test('holds up no other key', async () => {
    const { pass, calls, turn } = setup();
    void outcome(pass('k'));
    void outcome(pass('another'));
    await turn();

    expect(calls.map(({ key }) => key)).toEqual(['k', 'another']);
  });
});

describe('a key that is dead', () => {
  test('costs one call, however many wait, and none later', async () => {
    const { pass, calls, turn } = setup();
    const passed = Array.from({ length: 10 }, () => outcome(pass('k')));
    await turn();

    calls[0]?.fail(new EmbedError('key_invalid'));

    expect(await Promise.all(passed)).toEqual(Array(10).fill('key_invalid'));
    expect(await outcome(pass('k'))).toBe('key_invalid');
    expect(calls).toHaveLength(1);
  });

  test('is known at once when it dies in the middle of the work', async () => {
    const { pass, calls, turn } = setup();
    const first = outcome(pass('k'));
    await turn();
    calls[0]?.answer('well');
    await first;
    const second = outcome(pass('k'));
    await turn();
    calls[1]?.fail(new EmbedError('quota_exhausted'));

    expect(await second).toBe('quota_exhausted');
    expect(await outcome(pass('k'))).toBe('quota_exhausted');
    expect(calls).toHaveLength(2);
  });

  test('stays dead when an answer comes in that was on its way as it died', async () => {
    const { pass, calls, good, turn } = setup();
    const first = outcome(pass('k'));
    await turn();
    calls[0]?.answer('well');
    await first;
    const [late, refused] = [outcome(pass('k', 'globex')), outcome(pass('k'))];
    await turn();
    calls[2]?.fail(new EmbedError('key_invalid'));
    await refused;
    calls[1]?.answer('late');

    expect(await late).toBe('late');
    expect(await outcome(pass('k'))).toBe('key_invalid');
    expect(good).toEqual(['k of acme']);
  });
});

describe('a failure that says nothing of the key', () => {
  test.each([
    ['an outage', new EmbedError('provider_failed')],
    ['a limit', new EmbedError('rate_limited')],
    ['a bug', new Error('a bug')],
  ])('lets the next call try it, alone again: %s', async (_name, error) => {
    const { pass, calls, turn } = setup();
    const passed = Array.from({ length: 3 }, () => outcome(pass('k')));
    await turn();
    calls[0]?.fail(error);
    await turn();
    expect(calls).toHaveLength(2);

    calls[1]?.answer('well');
    await turn();
    expect(calls).toHaveLength(3);
    calls[2]?.answer('well');
    expect((await Promise.all(passed)).slice(1)).toEqual(['well', 'well']);
  });
});

test('a key that works is told of once a tenant, and once more after something was wrong with it', async () => {
  const { gate, pass, calls, good, turn } = setup();
  const work = async (tenantId: string) => {
    const passed = outcome(pass('k', tenantId));
    await turn();
    calls.at(-1)?.answer('well');
    await passed;
  };

  for (const tenantId of ['acme', 'acme', 'globex', 'globex']) await work(tenantId);
  expect(good).toEqual(['k of acme', 'k of globex']);

  gate.forgetGood('k', 'acme');
  for (const tenantId of ['acme', 'acme', 'globex']) await work(tenantId);
  expect(good).toEqual(['k of acme', 'k of globex', 'k of acme']);
});
