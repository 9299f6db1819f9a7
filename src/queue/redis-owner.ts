/** Whose Redis it is: two databases must not share one prefix, or they take each other's jobs. */
import type { Redis } from 'ioredis';
import { workerSlotsKey } from '../core/redis-address.ts';
import { redisTrouble } from '../core/redis-trouble.ts';

/** What is wrong, in words that are fit to be shown to anybody. */
export class RedisTrouble extends Error {
  override readonly name: string = 'RedisTrouble';
}

/** No connection comes about, for a reason that is known. */
export class RedisUnreachable extends RedisTrouble {
  override readonly name = 'RedisUnreachable';
}

/** The keys under the prefix are another database's. Nothing of this process may touch them. */
export class RedisOwnedByOther extends RedisTrouble {
  override readonly name = 'RedisOwnedByOther';
}

/**
 * Writes the mark of the database, or finds it there. Written each time, also over itself: a replica, a full Redis and a user
 * without the right to write show only then. After a flush the mark is set again.
 *
 * @param installationId of the database, `<uuid>/<the rest>`; null while that is not known: then nothing is marked, and a write is tried all the same.
 * @throws {RedisOwnedByOther} when the mark is another database's.
 * @throws {RedisTrouble} for what else `redisTrouble` has words for; any other error as it is.
 */
export async function claimRedis(
  redis: Redis,
  keyPrefix: string,
  installationId: string | null,
): Promise<void> {
  let owner: string | null;
  try {
    owner = (await (installationId === null
      ? redis.eval(TRY, 1, `${keyPrefix}:written`)
      : redis.eval(CLAIM, 2, `${keyPrefix}:owner`, workerSlotsKey(keyPrefix), installationId))) as
      | string
      | null;
  } catch (error) {
    const trouble = redisTrouble(error);
    throw trouble === undefined ? error : new RedisTrouble(trouble, { cause: error });
  }
  if (installationId === null || owner === installationId) return;
  throw new RedisOwnedByOther(
    `its keys under "${keyPrefix}" belong to another database of Infill: give each its own REDIS_PREFIX. ` +
      `If this database took the other's place, stop all processes and delete the key ${keyPrefix}:owner`,
  );
}

// A database that was restored or upgraded has the same uuid on another server. It takes the mark over when no worker of the
// other one lives: then the two are one that moved, and not a copy beside its original.
const CLAIM = `
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local has_moved = string.match(owner, '^[^/]*') == string.match(ARGV[1], '^[^/]*')
  if not has_moved or redis.call('ZCOUNT', KEYS[2], now, '+inf') > 0 then return owner end
end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]`;
const TRY = `redis.call('SET', KEYS[1], '1', 'PX', 60000) return ''`;
