import { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { announceSlots, countSlots } from '../src/pacing/worker-slots.ts';
import { createTestRedis, type TestService } from './support/services.ts';

let service: TestService;
let redis: Redis;

beforeAll(async () => {
  service = await createTestRedis();
  redis = new Redis(service.url);
});
afterAll(async () => {
  await redis.quit();
  await service.close();
});
beforeEach(async () => {
  await redis.flushdb();
});

test('the slots of all workers alive add up', async () => {
  expect(await countSlots(redis)).toBe(0);
  await announceSlots(redis, 'worker-1', 16);
  await announceSlots(redis, 'worker-2', 8);
  expect(await countSlots(redis)).toBe(24);
});

test('a worker counts once, however often it speaks and whatever it is called', async () => {
  await announceSlots(redis, 'host:1', 16);
  await announceSlots(redis, 'host:1', 4);
  await announceSlots(redis, '1', 1);
  expect(await countSlots(redis)).toBe(5);
});

test('a worker that stops counts no more', async () => {
  await announceSlots(redis, 'worker-1', 16);
  await announceSlots(redis, 'worker-1', 0);
  expect(await countSlots(redis)).toBe(0);
});

test('a worker that died counts no more once its time is over', async () => {
  await announceSlots(redis, 'worker-1', 16);
  await announceSlots(redis, 'worker-2', 8, 50);
  await expect.poll(() => countSlots(redis)).toBe(16);
});

test('nothing stays in Redis when all workers are gone', async () => {
  await announceSlots(redis, 'worker-1', 16, 50);
  await expect.poll(() => redis.dbsize()).toBe(0);
});
