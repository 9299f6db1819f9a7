import { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach } from 'vitest';
import { createTestRedis, type TestService } from './services.ts';

/** Gives each test an empty Redis, as the client of what it returns. */
export function useRedis(): { readonly redis: Redis } {
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
  return {
    get redis() {
      return redis;
    },
  };
}
