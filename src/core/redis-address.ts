/** Reads `REDIS_URL` into checked connection settings: the one place that knows what the parts of an address mean. */

export const REDIS_MODES = ['standalone', 'cluster', 'sentinel'] as const;
export type RedisMode = (typeof REDIS_MODES)[number];

export type RedisAddress = {
  readonly mode: RedisMode;
  /** One for a standalone server; some nodes of a cluster, or some sentinels, in the order of the address. */
  readonly nodes: readonly { readonly host: string; readonly port: number }[];
  readonly username: string | undefined;
  readonly password: string | undefined;
  /** Number of the database; 0 in a cluster. */
  readonly database: number;
  readonly tls: boolean;
  /** 4 or 6 for one kind of address only; 0 for both. */
  readonly family: 0 | 4 | 6;
};

/** Says what is wrong with an address and what would be right, without any value of it. */
export class RedisAddressError extends Error {}

/** What all keys begin with unless `REDIS_PREFIX` says otherwise. */
export const KEY_PREFIX_DEFAULT = '{infill}';

const EXPECTED = 'expected a URL such as redis://host:6379';
const PORT_DEFAULTS = { standalone: 6_379, cluster: 6_379, sentinel: 26_379 } as const;
/** Redis has 16 unless it is told otherwise; no server has more than this. */
const DATABASE_MAX = 9_999;

/**
 * What all keys of a prefix begin with. The braces make it the hash tag: a cluster keeps such keys on one node, which scripts
 * over several keys need.
 */
export function keyPrefixOf(prefix: string): string {
  return `{${prefix}}`;
}

/** The live workers and their slots: `pacing/worker-slots.ts`. */
export function workerSlotsKey(keyPrefix: string): string {
  return `${keyPrefix}:worker-slots`;
}

/**
 * Takes `redis://user:password@host:6379/0` apart, or `rediss://` for TLS. Several addresses are separated by commas, each as
 * `host:port` or as a URL of its own; the login of the first counts.
 *
 * @throws {RedisAddressError}
 */
export function parseRedisAddress(text: string, mode: RedisMode = 'standalone'): RedisAddress {
  const [, scheme, authority = '', path = '', query = ''] =
    /^(rediss?):\/\/([^/?#]*)(?:\/([^?#,]*))?(?:\?([^#]*))?$/.exec(joined(text)) ?? [];
  if (scheme === undefined) throw new RedisAddressError(EXPECTED);
  const at = authority.lastIndexOf('@');
  const [username = '', ...password] = at < 0 ? [] : authority.slice(0, at).split(':');
  const nodes = authority
    .slice(at + 1)
    .split(',')
    .map((node) => nodeOf(node.trim(), mode));
  if (mode === 'standalone' && nodes.length > 1) {
    throw new RedisAddressError(
      'expected one address: several need REDIS_MODE=cluster, or REDIS_MODE=sentinel',
    );
  }
  const database = databaseOf(path);
  if (mode === 'cluster' && database !== 0) {
    throw new RedisAddressError('expected database 0, since a cluster has no other');
  }
  return {
    mode,
    nodes,
    username: decoded(username) || undefined,
    password: decoded(password.join(':')) || undefined,
    database,
    tls: scheme === 'rediss',
    family: familyOf(query),
  };
}

/** `redis://a:1,redis://b:2` in the form `redis://a:1,b:2`. */
function joined(text: string): string {
  const [first = '', ...others] = text.trim().split(/,\s*rediss?:\/\/(?:[^@,/]*@)?/);
  if (others.length === 0) return first;
  const [, begin = '', end = ''] = /^(rediss?:\/\/[^/?#]*)(.*)$/.exec(first) ?? [];
  return `${[begin, ...others.map((other) => other.replace(/\/.*$/, ''))].join(',')}${end}`;
}

function nodeOf(text: string, mode: RedisMode): { host: string; port: number } {
  const [, bracketed, plain, port] =
    /^(?:\[([0-9A-Fa-f:.]+)\]|([^:[\]\s@]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined) throw new RedisAddressError(EXPECTED);
  const number = port === undefined ? PORT_DEFAULTS[mode] : Number(port);
  if (number < 1 || number > 65_535) throw new RedisAddressError(EXPECTED);
  return { host, port: number };
}

function databaseOf(path: string): number {
  if (path === '') return 0;
  const number = Number(path);
  if (/^\d{1,4}$/.test(path) && number <= DATABASE_MAX) return number;
  throw new RedisAddressError(
    'expected the number of a database after the last slash, such as redis://host:6379/2',
  );
}

/** ioredis would take any parameter for one of its own options, and silently leave out what it does not know. */
function familyOf(query: string): RedisAddress['family'] {
  let family: RedisAddress['family'] = 0;
  for (const [name, value] of new URLSearchParams(query)) {
    if (name !== 'family') {
      const shown = /^[A-Za-z_]{1,40}$/.test(name) ? `the parameter "${name}"` : 'a parameter of the URL';
      throw new RedisAddressError(
        `${shown} is not known: remove it (TLS is rediss://, a database is /number)`,
      );
    }
    if (value !== '0' && value !== '4' && value !== '6')
      throw new RedisAddressError('expected family to be 0, 4 or 6');
    family = Number(value) as RedisAddress['family'];
  }
  return family;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new RedisAddressError(`${EXPECTED}; a "%" in the password is written as %25`);
  }
}
