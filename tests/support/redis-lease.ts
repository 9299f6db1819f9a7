import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';

/** A Redis has 16 databases by default; number 0 holds the leases. */
const DATABASES = Array.from({ length: 15 }, (_, index) => index + 1);

/** A lease whose owner died ends after this time. */
const LEASE_MS = 60_000;
const RENEW_MS = 15_000;
const WAIT_MS_MAX = 55_000;
const POLL_MS = 200;

/** Extends a lease if it is still its owner's. */
const RENEW = `return redis.call('get', KEYS[1]) == ARGV[1] and redis.call('pexpire', KEYS[1], ARGV[2]) or 0`;
/** Ends a lease if it is still its owner's. */
const RELEASE = `return redis.call('get', KEYS[1]) == ARGV[1] and redis.call('del', KEYS[1]) or 0`;

/**
 * Leases an empty database of a shared Redis, until `close()` or the end of this process.
 *
 * @throws {Error} when all are leased for 55 s.
 */
export async function leaseRedisDatabase(url: string): Promise<{ url: string; close(): Promise<void> }> {
  const owner = randomUUID();
  const leases = new Redis(urlOf(url, 0));
  const number = await take(leases, owner);
  const key = leaseKey(number);
  const renewal = setInterval(
    () => void leases.eval(RENEW, 1, key, owner, LEASE_MS).catch(() => {}),
    RENEW_MS,
  );
  renewal.unref();
  const leasedUrl = urlOf(url, number);
  await flush(leasedUrl);

  return {
    url: leasedUrl,
    async close() {
      clearInterval(renewal);
      await flush(leasedUrl);
      await leases.eval(RELEASE, 1, key, owner);
      await leases.quit();
    },
  };
}

async function take(leases: Redis, owner: string): Promise<number> {
  const deadline = Date.now() + WAIT_MS_MAX;
  for (;;) {
    for (const number of DATABASES) {
      if ((await leases.set(leaseKey(number), owner, 'PX', LEASE_MS, 'NX')) === 'OK') return number;
    }
    if (Date.now() > deadline) throw new Error('all databases of the test Redis are leased');
    await delay(POLL_MS);
  }
}

async function flush(url: string): Promise<void> {
  const redis = new Redis(url);
  await redis.flushdb();
  await redis.quit();
}

function urlOf(url: string, number: number): string {
  const numbered = new URL(url);
  numbered.pathname = `/${number}`;
  return numbered.href;
}

function leaseKey(number: number): string {
  return `infill:test:lease:${number}`;
}
