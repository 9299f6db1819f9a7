import { setTimeout as sleep } from 'node:timers/promises';
import type { Db } from '../db/client.ts';
import { readInstallationId } from '../db/installation.ts';
import type { RedisConnection } from '../queue/redis.ts';
import { claimRedis, RedisOwnedByOther, RedisUnreachable } from '../queue/redis-owner.ts';

/** A Postgres that is away is not to make Redis look as if it were. */
const INSTALLATION_MS_MAX = 300;
/** A server of Postgres may be upgraded while this process runs. */
const INSTALLATION_KNOWN_MS = 60_000;
const LOOK_AGAIN_MS = 100;

export type RedisCheck = () => Promise<void>;

/**
 * Makes the check that Redis takes writes, and that what is under the prefix is this database's.
 *
 * It rejects with `RedisOwnedByOther`, with `RedisTrouble` where words are known for what is wrong, or with Redis' own error.
 */
export function createRedisCheck(
  { redis, trouble }: RedisConnection,
  { db, keyPrefix }: { db: Db; keyPrefix: string },
): RedisCheck {
  let known: { atMs: number; id: Promise<string> } | undefined;
  const installationId = async (): Promise<string | null> => {
    if (known === undefined || Date.now() - known.atMs > INSTALLATION_KNOWN_MS) {
      const asked = { atMs: Date.now(), id: readInstallationId(db) };
      asked.id.catch(() => {
        if (known === asked) known = undefined;
      });
      known = asked;
    }
    const unknown = sleep(INSTALLATION_MS_MAX, null, { ref: false });
    return Promise.race([known.id.catch(() => null), unknown]);
  };

  return async () => {
    const words = trouble();
    if (words !== undefined) throw new RedisUnreachable(words);
    await claimRedis(redis, keyPrefix, await installationId());
  };
}

/**
 * Waits until Redis is there and is this database's, or until `signal` aborts.
 *
 * @throws {RedisOwnedByOther}
 */
export async function waitForOwnRedis(check: RedisCheck, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      return await check();
    } catch (error) {
      if (error instanceof RedisOwnedByOther) throw error;
      await sleep(LOOK_AGAIN_MS, undefined, { signal }).catch(() => undefined);
    }
  }
}
