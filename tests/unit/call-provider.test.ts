import type { SQL } from 'drizzle-orm';
import { PgDialect } from 'drizzle-orm/pg-core';
import { describe, expect, test } from 'vitest';
import { type Call, callProvider } from '../../src/backfill/call-provider.ts';
import type { BatchDeps } from '../../src/backfill/deps.ts';
import { KeyGate } from '../../src/backfill/key-gate.ts';
import { EmbedError } from '../../src/core/failures.ts';
import type { EmbedAnswer } from '../../src/openai/embedder.ts';
import type { Pacer, Reservation } from '../../src/pacing/pacer.ts';
import { SlotShares } from '../../src/pacing/slot-shares.ts';
import { NO_LIMITS } from '../support/pacing.ts';

const ESTIMATE = 17;
const ANSWER: EmbedAnswer = {
  vectors: [Float32Array.of(1)],
  tokens: 5,
  requestId: null,
  organization: null,
  limits: NO_LIMITS,
};

/**
 * A provider that a test answers request by request, and a pacer that notes what it is told of each place.
 *
 * `next` is what the pacer says to do about a failure of the provider.
 */
function setup({
  next = 'wait',
  owner = 'platform',
  pacer: other = {},
  signal = new AbortController().signal,
}: {
  next?: 'wait' | 'probe';
  owner?: string;
  pacer?: Partial<Pacer>;
  signal?: AbortSignal;
} = {}) {
  const requests: {
    texts: readonly string[];
    answer: (answer: EmbedAnswer) => void;
    fail: (e: Error) => void;
  }[] = [];
  const told: string[] = [];
  const noted: unknown[][] = [];
  const reported = new WeakSet<Reservation>();
  let places = 0;
  const once = (what: string) => async (place: Reservation) => {
    if (reported.has(place)) return;
    reported.add(place);
    told.push(what);
  };
  const pacer = {
    reserve: async () => {
      places += 1;
      return { go: true, waitMs: 0, taken: { tokens: ESTIMATE } } as unknown as Reservation;
    },
    settled: once('settled'),
    refused: once('refused'),
    failed: async (place: Reservation) => {
      await once('failed')(place);
      return { next, waitMs: next === 'wait' ? 2_000 : 0 };
    },
    released: once('released'),
    probed: async (_credential: unknown, _model: string, ok: boolean) => {
      told.push(ok ? 'probed well' : 'probed in vain');
      return { waitMs: ok ? 0 : 2_000 };
    },
    ...other,
  } as unknown as Pacer;
  const deps = {
    pacer,
    db: { execute: async (query: SQL) => void noted.push(new PgDialect().sqlToQuery(query).params) },
    keyGate: new KeyGate(),
    slotShares: new SlotShares({ slots: 16, onLent: () => undefined }),
    log: { info: () => undefined, warn: () => undefined, error: () => undefined },
    embedder: {
      embed: (_credential: unknown, { texts }: { texts: readonly string[] }) =>
        new Promise<EmbedAnswer>((answer, fail) => void requests.push({ texts, answer, fail })),
    },
  } as unknown as BatchDeps;
  const callFor = (waiter: string): Call => ({
    credential: { owner, fingerprint: 'f1' } as Call['credential'],
    model: 'm',
    dimensions: 1,
    jobId: `job of ${waiter}`,
    waiter,
    keyName: 'k',
    tenantId: 'acme',
    signal,
    onRequest: () => undefined,
    assertWanted: async () => undefined,
    sitsOut: () => false,
  });
  const embed = (waiter: string, other: Partial<Call> = {}) => {
    const ended = callProvider(deps, { ...callFor(waiter), ...other }, [waiter], 1);
    return ended.then(
      (answer) => answer.tokens,
      (error: Error) => (error instanceof EmbedError ? error.code : error),
    );
  };
  const request = async (number: number) => {
    for (;;) {
      const found = requests[number];
      if (found !== undefined) return found;
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  return { embed, request, requests, told, noted, placesTaken: () => places };
}

describe('batches that start with the same key at once', () => {
  test('follow the first one when it is answered, at places taken then', async () => {
    const { embed, request, told, placesTaken } = setup();
    const ends = ['a', 'b', 'c'].map((waiter) => embed(waiter));

    (await request(0)).answer(ANSWER);
    (await request(1)).answer(ANSWER);
    (await request(2)).answer(ANSWER);

    expect(await Promise.all(ends)).toEqual([5, 5, 5]);
    expect(told.toSorted()).toEqual(['released', 'released', 'settled', 'settled', 'settled']);
    expect(placesTaken()).toBe(5);
  });

  test.each(['timed_out', 'answer_malformed'] as const)(
    'are all sent away when the provider fails the first one (%s), instead of trying it one after the other',
    async (code) => {
      const { embed, request, requests, told } = setup();
      const ends = ['a', 'b', 'c'].map((waiter) => embed(waiter));

      (await request(0)).fail(new EmbedError(code));

      expect(await Promise.all(ends)).toEqual(['account_paused', 'account_paused', 'account_paused']);
      expect(requests).toHaveLength(1);
      expect(told.toSorted()).toEqual(['failed', 'released', 'released']);
    },
  );

  test('go no further than the gate when the first one finds the key dead: their places are given back', async () => {
    const { embed, request, requests, told } = setup();
    const ends = ['a', 'b', 'c'].map((waiter) => embed(waiter));

    (await request(0)).fail(new EmbedError('key_invalid'));

    expect(await Promise.all(ends)).toEqual(['key_invalid', 'key_invalid', 'key_invalid']);
    expect(requests).toHaveLength(1);
    expect(told.filter((what) => what !== 'released')).toEqual(['settled']);
  });
});

describe('a 429 that asks for no long wait', () => {
  test('is followed by the same request, as long as the work is wanted', async () => {
    const { embed, request, requests } = setup();
    const stopped = new Error('the run has stopped');
    let isWanted = true;
    const assertWanted = async () => {
      if (!isWanted) throw stopped;
    };
    const ended = embed('a', { assertWanted });

    (await request(0)).fail(new EmbedError('rate_limited'));
    const second = await request(1);
    isWanted = false;
    second.fail(new EmbedError('rate_limited', { retryAfterMs: 10 }));

    expect(await ended).toBe(stopped);
    expect(requests).toHaveLength(2);
  });
});

describe('the neutral word that tells an outage from a bad batch', () => {
  test.each([
    ['is answered: the batch is to blame', undefined, 'provider_failed', 'probed well'],
    ['is refused: the batch is to blame', new EmbedError('input_rejected'), 'provider_failed', 'probed well'],
    ['fails too: the account pauses', new EmbedError('timed_out'), 'account_paused', 'probed in vain'],
    [
      'is no answer either: the account pauses',
      new EmbedError('answer_malformed'),
      'account_paused',
      'probed in vain',
    ],
  ])('%s', async (_what, failure, code, heard) => {
    const { embed, request, told } = setup({ next: 'probe' });
    const ended = embed('a');

    (await request(0)).fail(new EmbedError('provider_failed'));
    const word = await request(1);
    if (failure === undefined) word.answer(ANSWER);
    else word.fail(failure);

    expect(await ended).toBe(code);
    expect(told).toEqual(['failed', heard]);
  });

  test('leaves a record of the key that it finds dead', async () => {
    const { embed, request, noted } = setup({ next: 'probe', owner: 'tenant' });
    const ended = embed('a');

    (await request(0)).fail(new EmbedError('provider_failed'));
    (await request(1)).fail(new EmbedError('key_invalid'));
    await ended;

    expect(noted).toEqual([expect.arrayContaining(['acme', 'f1', 'invalid'])]);
  });
});

test('an answer without usage counts as many tokens as were estimated for it', async () => {
  const { embed, request } = setup();
  const ended = embed('a');

  (await request(0)).answer({ ...ANSWER, tokens: 0 });

  expect(await ended).toBe(ESTIMATE);
});

describe('an answer of vectors of a wrong length', () => {
  test('stops the tenant when the vector of a plain word has a wrong length, too', async () => {
    const { embed, request, requests } = setup();
    const ended = embed('a');

    (await request(0)).fail(new EmbedError('answer_wrong_dimensions'));
    (await request(1)).fail(new EmbedError('answer_wrong_dimensions'));

    expect(await ended).toBe('model_wrong_dimensions');
    expect(new EmbedError('model_wrong_dimensions').verdict).toBe('stop_tenant');
    expect(requests.map(({ texts }) => texts)).toEqual([['a'], ['ping']]);
  });

  test.each([
    ['is answered right', undefined],
    ['is not answered', new EmbedError('provider_failed')],
  ])('is left to the next attempt when a plain word %s', async (_what, failure) => {
    const { embed, request } = setup();
    const ended = embed('a');

    (await request(0)).fail(new EmbedError('answer_wrong_dimensions'));
    const word = await request(1);
    if (failure === undefined) word.answer(ANSWER);
    else word.fail(failure);

    expect(await ended).toBe('answer_wrong_dimensions');
  });
});

test('the word that tells whose fault a failure is goes out when its time has come, and not before', async () => {
  const stop = new AbortController();
  const failed = async () => {
    setImmediate(() => stop.abort(new EmbedError('shutting_down')));
    return { next: 'probe', waitMs: 3_600_000 } as const;
  };
  const { embed, request, requests } = setup({ pacer: { failed }, signal: stop.signal });
  const ended = embed('a');

  (await request(0)).fail(new EmbedError('provider_failed'));

  expect(await ended).toBe('shutting_down');
  expect(requests).toHaveLength(1);
});
