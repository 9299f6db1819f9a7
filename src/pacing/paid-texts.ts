/**
 * Texts that a run has paid for, so that an equal text of the same tenant is not paid for again in that run.
 *
 * Redis remembers which row has a text's vector; the vector itself is in the user's table. Only vectors that could not be
 * written, or are not to be, are kept in Redis.
 */
import { createHash } from 'node:crypto';
import type { Redis } from 'ioredis';
import { KEY_PREFIX_DEFAULT } from '../core/redis-address.ts';
import { createScript } from './script.ts';

/** Whose texts: never another tenant's, run's or model's. */
export type PaidScope = {
  readonly runId: string;
  readonly tenantId: string;
  readonly target: string;
  /** Its identity (`core/target.ts`). */
  readonly model: string;
  readonly dimensions: number;
};

/** Reads the vectors of rows, by the hash of the text that each has by now. */
export type ReadVectors = (rowIds: readonly string[]) => Promise<ReadonlyMap<string, Float32Array>>;

/** No method rejects because Redis is not there: it is a help, not a need. */
export type PaidTexts = {
  /** The vectors of those texts, by hash, that are at hand. `read` is called only when a text was written before. */
  find(
    scope: PaidScope,
    textHashes: readonly string[],
    read: ReadVectors,
  ): Promise<Map<string, Float32Array>>;
  /** Remembers which row a text's vector was written to, for an hour. */
  wrote(scope: PaidScope, rows: readonly { textHash: string; rowId: string }[]): Promise<void>;
  /** Keeps vectors that are in no row for an hour, in place of the oldest when there are too many. */
  keep(scope: PaidScope, vectors: ReadonlyMap<string, Float32Array>): Promise<void>;
};

/** A run that takes longer pays for a text again after this time. */
const KEPT_MS = 3_600_000;
/** Texts of a run that are remembered: this many at least, and twice as many at most. 100,000 are 12 MB of Redis. */
const TEXTS_MAX = 100_000;
/** In place of a row's id: the vector is in Redis. No id is empty. */
const IN_REDIS = '';
/** Names of the kept vectors in the order they came: what bounds their number. */
const INDEX = 'vectors';

type Store = { readonly redis: Redis; readonly keyPrefix: string };

// KEYS: texts, texts before them. ARGV: how many, for how long, then fields and values.
const rememberScript = createScript(`
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[1]) then redis.call('RENAME', KEYS[1], KEYS[2]) end
return 0
`);

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
 * Makes the memory of all workers. At most `size` vectors are kept in it; 0 switches all of it off.
 *
 * Neither a text nor a tenant's name is in its keys: they are hashes.
 */
export function createPaidTexts(redis: Redis, size: number, keyPrefix = KEY_PREFIX_DEFAULT): PaidTexts {
  const store = { redis, keyPrefix };
  if (size === 0)
    return { find: async () => new Map(), wrote: async () => undefined, keep: async () => undefined };
  const remember = async (scope: PaidScope, places: readonly (readonly [string, string])[]) => {
    const prefix = prefixOf(scope);
    const fields = places.flatMap(([hash, place]) => [fieldOf(prefix, hash), place]);
    await rememberScript(redis, keysOf(store, scope), [TEXTS_MAX, KEPT_MS, ...fields]).catch(() => undefined);
  };

  return {
    async find(scope, textHashes, read) {
      const places = await placesOf(store, scope, textHashes).catch(() => new Map<string, string>());
      if (places.size === 0) return new Map();
      const rowIds = [...places.values()].filter((place) => place !== IN_REDIS);
      const written = rowIds.length === 0 ? new Map<string, Float32Array>() : await readKnown(read, rowIds);
      const kept = [...places].flatMap(([hash, place]) => (place === IN_REDIS ? [hash] : []));
      const found = await keptVectors(store, scope, kept).catch(() => new Map<string, Float32Array>());
      for (const [hash, vector] of written) if (places.has(hash)) found.set(hash, vector);
      return found;
    },
    async wrote(scope, rows) {
      if (rows.length === 0) return;
      await remember(
        scope,
        rows.map(({ textHash, rowId }) => [textHash, rowId]),
      );
    },
    async keep(scope, vectors) {
      const entries = [...vectors].slice(0, size);
      if (entries.length === 0) return;
      const keys = entries.map(([hash]) => vectorKeyOf(store, scope, hash));
      const values = entries.map(([, vector]) =>
        Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength),
      );
      await keepScript(redis, [`${keyPrefix}:${INDEX}`, ...keys], [size, KEPT_MS, ...values]).catch(
        () => undefined,
      );
      await remember(
        scope,
        entries.map(([hash]) => [hash, IN_REDIS]),
      );
    },
  };
}

async function placesOf(
  store: Store,
  scope: PaidScope,
  textHashes: readonly string[],
): Promise<Map<string, string>> {
  const places = new Map<string, string>();
  if (textHashes.length === 0) return places;
  const prefix = prefixOf(scope);
  const fields = textHashes.map((hash) => fieldOf(prefix, hash));
  // The texts of now, if there are any, go before those that came earlier.
  for (const answers of await Promise.all(
    keysOf(store, scope).map((key) => store.redis.hmget(key, ...fields)),
  )) {
    for (const [index, place] of answers.entries()) {
      const hash = textHashes[index];
      if (place !== null && hash !== undefined && !places.has(hash)) places.set(hash, place);
    }
  }
  return places;
}

async function keptVectors(
  store: Store,
  scope: PaidScope,
  textHashes: readonly string[],
): Promise<Map<string, Float32Array>> {
  const vectors = new Map<string, Float32Array>();
  if (textHashes.length === 0) return vectors;
  const found = await store.redis.mgetBuffer(textHashes.map((hash) => vectorKeyOf(store, scope, hash)));
  for (const [index, bytes] of found.entries()) {
    const hash = textHashes[index];
    if (hash === undefined || bytes?.length !== scope.dimensions * 4) continue;
    const vector = vectorOf(bytes);
    if (isUsable(vector)) vectors.set(hash, vector);
  }
  return vectors;
}

/** Redis is not asked to be right: what it holds passes the checks that a provider's answer has to pass. */
function isUsable(vector: Float32Array): boolean {
  return vector.every(Number.isFinite) && vector.some((value) => value !== 0);
}

/** Nothing is known where what Redis holds is no id of the table. */
async function readKnown(read: ReadVectors, rowIds: readonly string[]): ReturnType<ReadVectors> {
  try {
    return await read(rowIds);
  } catch (error) {
    if (isDataException(error)) return new Map();
    throw error;
  }
}

/** Class 22 of PostgreSQL's error codes: a value is not one of its type. */
function isDataException(error: unknown): boolean {
  for (let at = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    if ('code' in at && typeof at.code === 'string' && at.code.startsWith('22')) return true;
  }
  return false;
}

/** A run has one name for its texts of now, and one for those before them. */
function keysOf({ keyPrefix }: Store, { runId }: PaidScope): [string, string] {
  return [`${keyPrefix}:paid:${runId}`, `${keyPrefix}:paid:${runId}:before`];
}

function prefixOf({ tenantId, target, model, dimensions }: PaidScope): string {
  return hashOf([tenantId, target, model, dimensions]).slice(0, 16);
}

/** 16 digits of each hash: whoever is found under it by chance has another text, and is not taken. */
function fieldOf(prefix: string, textHash: string): string {
  return `${prefix}${textHash.slice(0, 16)}`;
}

function vectorKeyOf({ keyPrefix }: Store, scope: PaidScope, textHash: string): string {
  const { runId, tenantId, target, model, dimensions } = scope;
  return `${keyPrefix}:vector:${hashOf([runId, tenantId, target, model, dimensions, textHash])}`;
}

function hashOf(parts: readonly (string | number)[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}

/** A copy: the bytes of an answer of Redis are seldom aligned to four. */
function vectorOf(bytes: Buffer): Float32Array {
  return new Float32Array(
    bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer,
  );
}
