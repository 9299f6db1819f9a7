/** Vectors that a run has paid for, so that an equal text of the same tenant is not paid for again in that run. */
import { createHash } from 'node:crypto';
import type { Redis } from 'ioredis';
import { createScript } from './script.ts';

/** Whose vectors: never another tenant's, run's or model's. */
export type CacheScope = {
  readonly runId: string;
  readonly tenantId: string;
  readonly target: string;
  readonly model: string;
  readonly dimensions: number;
};

export type VectorCache = {
  /** The vectors of those texts, by hash, that are at hand. Empty when Redis is not there: a cache is a help, not a need. */
  find(scope: CacheScope, textHashes: readonly string[]): Promise<Map<string, Float32Array>>;
  /** Keeps vectors for `CACHE_MS`, in place of the oldest when the cache is full. */
  keep(scope: CacheScope, vectors: ReadonlyMap<string, Float32Array>): Promise<void>;
};

/** A run that takes longer pays for a text again after this time. */
const CACHE_MS = 3_600_000;
/** Names of the vectors in the order they came: what bounds their number. */
const INDEX_KEY = 'infill:vectors';

const keepScript = createScript(`
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local size, ttl = tonumber(ARGV[1]), tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ttl)
for i = 2, #KEYS do
  redis.call('SET', KEYS[i], ARGV[i + 1], 'PX', ttl)
  redis.call('ZADD', KEYS[1], now, KEYS[i])
end
local surplus = redis.call('ZCARD', KEYS[1]) - size
if surplus > 0 then
  local popped = redis.call('ZPOPMIN', KEYS[1], surplus)
  for i = 1, #popped, 2 do redis.call('DEL', popped[i]) end
end
redis.call('PEXPIRE', KEYS[1], ttl)
return 0
`);

/**
 * Makes the cache of all workers, of at most `size` vectors; 0 switches it off.
 *
 * 1,536 dimensions are 6 KiB of Redis a vector. Neither a text nor a tenant's name is in its keys: they are hashes.
 */
export function createVectorCache(redis: Redis, size: number): VectorCache {
  if (size === 0) return { find: async () => new Map(), keep: async () => undefined };
  return {
    async find(scope, textHashes) {
      if (textHashes.length === 0) return new Map();
      const found = await redis.mgetBuffer(textHashes.map((hash) => keyOf(scope, hash))).catch(() => []);
      const vectors = new Map<string, Float32Array>();
      for (const [index, bytes] of found.entries()) {
        const hash = textHashes[index];
        if (hash !== undefined && bytes?.length === scope.dimensions * 4) vectors.set(hash, vectorOf(bytes));
      }
      return vectors;
    },
    async keep(scope, vectors) {
      const entries = [...vectors].slice(0, size);
      if (entries.length === 0) return;
      const keys = entries.map(([hash]) => keyOf(scope, hash));
      const values = entries.map(([, vector]) =>
        Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength),
      );
      await keepScript(redis, [INDEX_KEY, ...keys], [size, CACHE_MS, ...values]).catch(() => undefined);
    },
  };
}

function keyOf({ runId, tenantId, target, model, dimensions }: CacheScope, textHash: string): string {
  const name = JSON.stringify([runId, tenantId, target, model, dimensions, textHash]);
  return `infill:vector:${createHash('sha256').update(name).digest('hex')}`;
}

/** A copy: the bytes of an answer of Redis are seldom aligned to four. */
function vectorOf(bytes: Buffer): Float32Array {
  return new Float32Array(
    bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer,
  );
}
