/** Connects to Redis: to one server, to a cluster, or to whichever server the sentinels call the primary. */
import { Cluster, Redis } from 'ioredis';
import { parseRedisAddress, type RedisMode } from '../core/redis-address.ts';
import { redisTrouble } from '../core/redis-trouble.ts';

export type RedisSettings = {
  readonly url: string;
  readonly mode: RedisMode;
  /** Name of the group that the sentinels watch; for `sentinel` only. */
  readonly sentinelName: string | undefined;
};

export type RedisClientOptions = {
  /** Commands fail at once while Redis is away, or when they take longer than this. Without it they wait until it is back. */
  readonly commandMsMax?: number;
  readonly onError: (error: Error) => void;
};

export type RedisConnection = {
  /** A cluster's client has all that is used here, too. */
  readonly redis: Redis;
  /** What is wrong with the connection at the moment; undefined while it is up, or when nothing is known. */
  trouble(): string | undefined;
};

/** Longest pause between attempts to reconnect: an outage ends for us at most this long after it ended. */
const RECONNECT_MS_MAX = 1_000;
/** How long a refusal to write is told after it was met. */
const READ_ONLY_TOLD_MS = 2_000;
/** A port without TLS does not answer a request for it. */
const CONNECT_MS_MAX = 4_000;
/** How long a lost peer may keep a connection that it will never use again. */
const KEEP_ALIVE_MS = 10_000;

/**
 * Opens a connection; connects in the background, so that a process starts while Redis is still coming up.
 *
 * @throws {RedisAddressError} if the URL cannot be used
 */
export function openRedis(settings: RedisSettings, options: RedisClientOptions): RedisConnection {
  let readOnlyAtMs = Number.NEGATIVE_INFINITY;
  const redis = clientOf(settings, options, () => {
    readOnlyAtMs = Date.now();
  });
  let last: string | undefined;
  let lasting: string | undefined;
  const failed = (error: Error) => {
    last = redisTrouble(error) ?? last;
    // ioredis goes on in database 0, which may be somebody else's.
    if (/DB index is out of range|invalid DB index/.test(error.message)) lasting = redisTrouble(error);
    options.onError(error);
  };
  redis.on('error', failed);
  // A cluster tells the errors of its nodes apart from its own.
  redis.on('node error', failed);
  redis.on('ready', () => {
    last = undefined;
  });
  return {
    redis,
    trouble() {
      // It connects again and again, and is ready for a moment each time.
      if (Date.now() - readOnlyAtMs < READ_ONLY_TOLD_MS) return redisTrouble(new Error('READONLY'));
      return lasting ?? (redis.status === 'ready' ? undefined : last);
    },
  };
}

function clientOf(
  { url, mode, sentinelName }: RedisSettings,
  { commandMsMax }: RedisClientOptions,
  onReadOnly: () => void,
): Redis {
  const { nodes, username, password, database, tls, family } = parseRedisAddress(url, mode);
  const failsAtOnce = commandMsMax !== undefined;
  const common = {
    username,
    password,
    family,
    connectTimeout: CONNECT_MS_MAX,
    keepAlive: KEEP_ALIVE_MS,
    maxRetriesPerRequest: failsAtOnce ? 0 : null,
    commandTimeout: commandMsMax,
    ...(tls && { tls: {} }),
    // A primary that became a replica keeps its connections. Connecting again leads to the new primary, and the command is sent
    // again, unless its caller does not wait.
    reconnectOnError: (error: Error) => {
      if (!/READONLY/.test(error.message)) return false;
      onReadOnly();
      return failsAtOnce ? (1 as const) : (2 as const);
    },
  };
  if (mode === 'cluster') {
    const cluster = new Cluster([...nodes], {
      enableOfflineQueue: !failsAtOnce,
      clusterRetryStrategy: pauseMs,
      redisOptions: common,
      // A certificate names hosts, so a node is not to be connected to by its number.
      ...(tls && { dnsLookup: (address, callback) => callback(null, address) }),
    });
    return cluster as unknown as Redis;
  }
  if (mode === 'sentinel') {
    return new Redis({
      ...common,
      enableOfflineQueue: !failsAtOnce,
      db: database,
      sentinels: [...nodes],
      name: sentinelName ?? '',
      role: 'master',
      sentinelPassword: password,
      retryStrategy: pauseMs,
      sentinelRetryStrategy: pauseMs,
      // With it a failover is heard of at once, and not when the old primary stops answering.
      failoverDetector: true,
      ...(tls && { enableTLSForSentinelMode: true, sentinelTLS: {} }),
    });
  }
  const [node] = nodes;
  return new Redis({
    ...common,
    ...node,
    retryStrategy: pauseMs,
    enableOfflineQueue: !failsAtOnce,
    db: database,
  });
}

function pauseMs(attempts: number): number {
  return Math.min(50 * 2 ** Math.min(attempts, 10), RECONNECT_MS_MAX);
}
