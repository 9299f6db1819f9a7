import type { Redis } from 'ioredis';

/** How the values of each type are read whole. */
const READ: Readonly<Record<string, (key: string) => [string, ...(string | number)[]]>> = {
  string: (key) => ['GET', key],
  hash: (key) => ['HGETALL', key],
  list: (key) => ['LRANGE', key, 0, -1],
  set: (key) => ['SMEMBERS', key],
  zset: (key) => ['ZRANGE', key, 0, -1, 'WITHSCORES'],
  stream: (key) => ['XRANGE', key, '-', '+'],
};

/** Everything that a Redis holds, key by key, as Latin-1 text. Keys that end while it reads are left out. */
export async function readAllValues(redis: Redis): Promise<{ key: string; text: string }[]> {
  const values: { key: string; text: string }[] = [];
  for await (const keys of redis.scanStream({ count: 500 })) {
    for (const key of keys as string[]) {
      const type = await redis.type(key);
      if (type === 'none') continue;
      const read = READ[type];
      if (read === undefined) throw new Error(`${key} is a ${type}: nobody knows how to read it`);
      const [command, ...args] = read(key);
      const value = await redis.callBuffer(command, ...args).catch(() => null);
      values.push({ key, text: textOf(value) });
    }
  }
  return values;
}

function textOf(value: unknown): string {
  if (Array.isArray(value)) return value.map(textOf).join('\n');
  return Buffer.isBuffer(value) ? value.toString('latin1') : String(value);
}
