import { beforeEach } from 'vitest';
import type { Credential } from '../../src/core/credential.ts';
import { createPacer, type Pacer, type Reservation, type Wait } from '../../src/pacing/pacer.ts';
import { CLOCK, MODEL, NO_LIMITS, START_MS } from './pacing.ts';
import { useRedis } from './redis.ts';

export const SMALL = { inputs: 1, bytes: 300 };
export const LIMITS = {
  ...NO_LIMITS,
  requestsLimit: 60,
  requestsRemaining: 59,
  tokensLimit: 60_000,
  tokensRemaining: 59_900,
};

export type PacerSetup = ReturnType<typeof usePacer>;

/** Gives each test an empty Redis with a clock that only the test moves, and words to speak of it. */
export function usePacer() {
  const store = useRedis();
  let pacer: Pacer;
  let nowMs = START_MS;

  beforeEach(async () => {
    await setClock(START_MS);
    pacer = newPacer();
  });

  /** A pacer as another process would have it: it shares Redis and nothing else. */
  function newPacer(): Pacer {
    return createPacer(store.redis, { clockKey: CLOCK, random: () => 0 });
  }
  async function setClock(atMs: number): Promise<void> {
    nowMs = atMs;
    await store.redis.set(CLOCK, atMs);
  }
  return {
    get redis() {
      return store.redis;
    },
    get pacer() {
      return pacer;
    },
    get nowMs() {
      return nowMs;
    },
    newPacer,
    pass: (elapsedMs: number) => setClock(nowMs + elapsedMs),
    async go(credential: Credential): Promise<Reservation> {
      const answer = await pacer.reserve(credential, MODEL, SMALL);
      if (!answer.go) throw new Error(`must wait ${answer.waitMs} ms because of ${answer.because}`);
      return answer;
    },
    /** Reserves until somebody must wait. */
    async drain(credential: Credential): Promise<{ granted: Reservation[]; wait: Wait }> {
      const granted: Reservation[] = [];
      for (;;) {
        const answer = await pacer.reserve(credential, MODEL, SMALL);
        if (!answer.go) return { granted, wait: answer };
        granted.push(answer);
      }
    },
  };
}
