/** How many batches all live workers can run at once: the sum of what each announces. */
import type { Redis } from 'ioredis';
import { KEY_PREFIX_DEFAULT, workerSlotsKey } from '../core/redis-address.ts';
import { createScript } from './script.ts';

/** How often a worker says that it lives. */
export const ANNOUNCE_EVERY_MS = 5_000;
/** A worker that has said nothing for this long does not count: three beats and a bit. */
export const ANNOUNCE_FOR_MS = 17_000;

// One member a worker, "<slots>:<worker>", with the time at which it stops counting. Redis's clock, so that workers whose
// clocks differ agree.
const PRELUDE = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
`;

const announce = createScript(`${PRELUDE}
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if string.match(member, '^%d+:(.*)$') == ARGV[1] then redis.call('ZREM', KEYS[1], member) end
end
if tonumber(ARGV[2]) > 0 then redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[2] .. ':' .. ARGV[1]) end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
`);

const count = createScript(`${PRELUDE}
local slots = 0
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  slots = slots + tonumber(string.match(member, '^%d+'))
end
return slots
`);

/**
 * Says that a worker lives and how many batches it runs at once. Counts for 17 s; call it every 5 s, and with 0 slots
 * when the worker stops. Calling it again replaces what it said before. Rejects when Redis is not there.
 */
export async function announceSlots(
  redis: Redis,
  workerId: string,
  slots: number,
  { forMs = ANNOUNCE_FOR_MS, keyPrefix = KEY_PREFIX_DEFAULT } = {},
): Promise<void> {
  await announce(redis, [workerSlotsKey(keyPrefix)], [workerId, Math.max(0, Math.floor(slots)), forMs]);
}

/** Slots of all workers alive; 0 when none has spoken, also just after Redis was lost. Rejects when Redis is not there. */
export async function countSlots(redis: Redis, keyPrefix = KEY_PREFIX_DEFAULT): Promise<number> {
  return Number(await count(redis, [workerSlotsKey(keyPrefix)], []));
}
