import type { Redis } from 'ioredis';
import type { Log } from '../log.ts';
import { type EndedSessions, endedInMemory } from './session.ts';

/**
 * Remembers in Redis which sessions were logged out, so that every API process knows.
 *
 * While Redis is away, this process knows of those that were logged out here, and sessions go on to count: the pages
 * are wanted most when something is down, and a cookie is signed and ends after 8 hours in any case.
 */
export function endedInRedis(redis: Redis, keyPrefix: string, log: Log): EndedSessions {
  const here = endedInMemory();
  const keyOf = (id: string) => `${keyPrefix}:session-ended:${id}`;
  return {
    end: async (id, forMs) => {
      await here.end(id, forMs);
      await redis.set(keyOf(id), '1', 'PX', Math.max(1, Math.ceil(forMs))).catch((error: unknown) => {
        log.warn({ err: error }, 'logout_not_shared');
      });
    },
    has: async (id) => {
      if (await here.has(id)) return true;
      const found = await redis.exists(keyOf(id)).catch(() => 0);
      return found > 0;
    },
  };
}
