import { expect, test } from 'vitest';
import { announceSlots, countSlots } from '../../src/pacing/worker-slots.ts';
import { useRedis } from '../support/redis.ts';

const store = useRedis();

test('the slots of all workers alive add up', async () => {
  expect(await countSlots(store.redis)).toBe(0);
  await announceSlots(store.redis, 'worker-1', 16);
  await announceSlots(store.redis, 'worker-2', 8);
  expect(await countSlots(store.redis)).toBe(24);
});

test('a worker counts once, however often it speaks and whatever it is called', async () => {
  await announceSlots(store.redis, 'host:1', 16);
  await announceSlots(store.redis, 'host:1', 4);
  await announceSlots(store.redis, '1', 1);
  expect(await countSlots(store.redis)).toBe(5);
});

test('a worker that stops counts no more', async () => {
  await announceSlots(store.redis, 'worker-1', 16);
  await announceSlots(store.redis, 'worker-1', 0);
  expect(await countSlots(store.redis)).toBe(0);
});

test('a worker that died counts no more once its time is over', async () => {
  await announceSlots(store.redis, 'worker-1', 16);
  await announceSlots(store.redis, 'worker-2', 8, { forMs: 50 });
  await expect.poll(() => countSlots(store.redis)).toBe(16);
});

test('nothing stays in Redis when all workers are gone', async () => {
  await announceSlots(store.redis, 'worker-1', 16, { forMs: 50 });
  await expect.poll(() => store.redis.dbsize()).toBe(0);
});
