import { describe, expect, test } from 'vitest';
import {
  keyPrefixOf,
  parseRedisAddress,
  RedisAddressError,
  type RedisMode,
} from '../../src/core/redis-address.ts';
import { redisTrouble } from '../../src/core/redis-trouble.ts';

const NODE = { host: 'redis', port: 6379 };
const PLAIN = {
  mode: 'standalone',
  nodes: [NODE],
  username: undefined,
  password: undefined,
  database: 0,
  tls: false,
  family: 0,
};

describe('the address of Redis', () => {
  test.each<[string, RedisMode, object]>([
    ['redis://redis', 'standalone', {}],
    ['redis://redis:6380/3', 'standalone', { nodes: [{ host: 'redis', port: 6380 }], database: 3 }],
    [
      'rediss://user:p%40ss:word@redis/',
      'standalone',
      { username: 'user', password: 'p@ss:word', tls: true },
    ],
    [
      'redis://:p%23w@[::1]:6379/2?family=6',
      'standalone',
      { nodes: [{ host: '::1', port: 6379 }], password: 'p#w', database: 2, family: 6 },
    ],
    [
      'redis://:pw@a:7000,b:7001,c',
      'cluster',
      {
        mode: 'cluster',
        password: 'pw',
        nodes: [
          { host: 'a', port: 7000 },
          { host: 'b', port: 7001 },
          { host: 'c', port: 6379 },
        ],
      },
    ],
    [
      'redis://:pw@a:7000, redis://:pw@b:7001',
      'cluster',
      {
        mode: 'cluster',
        password: 'pw',
        nodes: [
          { host: 'a', port: 7000 },
          { host: 'b', port: 7001 },
        ],
      },
    ],
    [
      'redis://a,b:26380/1',
      'sentinel',
      {
        mode: 'sentinel',
        nodes: [
          { host: 'a', port: 26379 },
          { host: 'b', port: 26380 },
        ],
        database: 1,
      },
    ],
  ])('%s is understood as %s', (url, mode, expected) => {
    expect(parseRedisAddress(url, mode)).toEqual({ ...PLAIN, ...expected });
  });

  test.each<[string, RedisMode, RegExp]>([
    ['http://redis', 'standalone', /^expected a URL such as redis:/],
    ['redis://', 'standalone', /^expected a URL/],
    ['redis://planted host', 'standalone', /^expected a URL/],
    ['redis://redis:planted', 'standalone', /^expected a URL/],
    ['redis://redis:99999', 'standalone', /^expected a URL/],
    ['redis://:%planted@redis', 'standalone', /written as %25/],
    ['redis://redis/planted', 'standalone', /^expected the number of a database/],
    [
      'redis://redis?ssl_cert_reqs=planted',
      'standalone',
      /^the parameter "ssl_cert_reqs" is not known: remove it/,
    ],
    ['redis://redis?family=5', 'standalone', /^expected family to be 0, 4 or 6/],
    ['redis://a,b', 'standalone', /REDIS_MODE=cluster, or REDIS_MODE=sentinel/],
    ['redis://a,b/2', 'cluster', /^expected database 0/],
  ])('%s is refused for %s in words that hold nothing of it', (url, mode, words) => {
    const parse = () => parseRedisAddress(url, mode);
    expect(parse).toThrow(RedisAddressError);
    expect(parse).toThrow(words);
    expect(parse).not.toThrow(/planted/);
  });

  test('a prefix becomes the hash tag of all keys', () => {
    expect(keyPrefixOf('staging')).toBe('{staging}');
  });
});

test.each([
  [
    "NOPERM User infill has no permissions to run the 'info' command",
    'its user may not use the command info',
  ],
  ['NOPERM No permissions to access a key', 'its user may not use the keys of Infill'],
  ['Protocol error, got "H" as reply type byte', 'what answers there is no Redis'],
  [
    'write EPROTO 00A:error:0A00010B:SSL routines:ssl3_get_record:wrong version number',
    'it speaks no TLS there',
  ],
])('%s is told as what to change', (message, words) => {
  expect(redisTrouble(new Error('outer', { cause: new Error(message) }))).toContain(words);
});

test('an error that nobody has met before has no words of ours', () => {
  expect(redisTrouble(new Error('planted words'))).toBeUndefined();
});
