import { Socket } from 'node:net';
import type { ExtractTablesWithRelations } from 'drizzle-orm';
import type { PgDatabase } from 'drizzle-orm/pg-core';
import { drizzle, type PostgresJsQueryResultHKT } from 'drizzle-orm/postgres-js';
import postgres from 'postgres';
import { parsePostgresAddress } from '../core/postgres-address.ts';
import { ARRAY_TYPES } from './array-types.ts';
import { findPooling, type Pooling, whichever, withBounds } from './pooler.ts';
import { withPrepared } from './prepared.ts';
import { tlsOf } from './tls.ts';
import { withSafeTransactions } from './transactions.ts';

/** A database handle or an open transaction: every statement takes one first, so that the caller decides on the transaction. */
export type Db = PgDatabase<
  PostgresJsQueryResultHKT,
  Record<string, never>,
  ExtractTablesWithRelations<Record<string, never>>
>;

export type Database = {
  readonly db: Db;
  /** Waits for statements under way, at most `CLOSE_SECONDS_MAX`, then cuts. */
  close(): Promise<void>;
};

export type DatabaseOptions = {
  readonly connectionsMax: number;
  /** Shown in `pg_stat_activity`. */
  readonly applicationName: string;
  /** Whether a pooler is there that gives each transaction another connection. Default: found out. */
  readonly pooling?: Pooling;
};

/**
 * Bounds of every statement and transaction. Counting a large table takes minutes and is let; waiting for somebody's lock is
 * not; and a process that was frozen in a transaction must not keep its locks from all others.
 */
const BOUNDS_MS = {
  lock_timeout: 5_000,
  statement_timeout: 300_000,
  idle_in_transaction_session_timeout: 10_000,
} as const;

const CONNECT_SECONDS = 5;
const CLOSE_SECONDS_MAX = 5;
/** Longest pause between attempts to reconnect, in seconds: an outage ends for us at most this long after it ended. */
const RECONNECT_SECONDS_MAX = 1;

/**
 * Opens a pool; connects on first use, so that a process starts while Postgres is still coming up.
 *
 * @throws {PostgresAddressError} if the URL cannot be used
 * @throws {Error} if a certificate that it names cannot be read
 */
export function openDatabase(url: string, options: DatabaseOptions): Database {
  const { pooling = findPooling(url) } = options;
  const direct = openClient(url, options, { startup: BOUNDS_MS, prepare: true });
  const pooled = openClient(url, options, { startup: {}, prepare: false });
  const clients = [
    withSafeTransactions(withPrepared(direct, true)),
    withBounds(withSafeTransactions(pooled), BOUNDS_MS),
  ] as const;
  // For what it does to the options of the one that `whichever` does not show it.
  drizzle(pooled);
  return {
    db: drizzle(whichever(...clients, pooling)) as unknown as Db,
    close: async () =>
      void (await Promise.all([direct, pooled].map((one) => one.end({ timeout: CLOSE_SECONDS_MAX })))),
  };
}

type ClientOptions = {
  /** Settings in the startup packet, which poolers refuse. */
  readonly startup: Readonly<Record<string, number>>;
  /** Whether a statement may have a name. */
  readonly prepare: boolean;
};

/** Connects on first use. */
export function openClient(
  url: string,
  { connectionsMax, applicationName }: DatabaseOptions,
  { startup, prepare }: ClientOptions,
): postgres.Sql {
  const address = parsePostgresAddress(url);
  // Not the URL itself: postgres.js would read it in its own way, and send what it does not know to the server.
  return postgres({
    host: address.hosts?.map(({ host }) => host),
    port: address.hosts?.map(({ port }) => port),
    path: address.socketPath,
    user: address.user,
    pass: address.password,
    database: address.database,
    ssl: tlsOf(address),
    max: connectionsMax,
    prepare,
    connect_timeout: address.connectSeconds ?? CONNECT_SECONDS,
    idle_timeout: 60,
    backoff: (retries: number) => Math.min(0.05 * 2 ** retries, RECONNECT_SECONDS_MAX),
    onnotice: () => undefined,
    fetch_types: false,
    types: ARRAY_TYPES,
    connection: {
      application_name: address.applicationName ?? applicationName,
      ...(address.options === undefined ? {} : { options: address.options }),
      ...startup,
    },
    socket: socketOpener(),
    // Among several hosts the one that takes writes is looked for.
    ...((address.hosts?.length ?? 1) > 1 ? { target_session_attrs: 'read-write' } : {}),
  } as unknown as postgres.Options<Record<string, never>>) as unknown as postgres.Sql;
}

type SocketOptions = { host: string[]; port: number[]; path?: string | false };

/** A connection that ends sooner than this was to a server that is no use: the next host is tried. */
const USELESS_MS_MAX = 2_000;

/**
 * postgres.js leaves Nagle's algorithm on, which costs a large statement up to 40 ms a round trip, and tries one host only where
 * sockets are ours.
 *
 * The socket is returned while it still connects: Node holds back what is written until then, and a failure reaches
 * postgres.js through the socket's own events, so that it frees the connection. A promise that rejects would leak it.
 */
function socketOpener(): (options: SocketOptions) => Socket {
  let current = 0;
  return ({ host, port, path }) => {
    const socket = new PoolSocket().setNoDelay(true);
    if (path) return socket.connect({ path });
    const index = current % Math.max(1, host.length);
    const openedAtMs = Date.now();
    socket.once('close', () => {
      if (Date.now() - openedAtMs < USELESS_MS_MAX && current === index) current = (index + 1) % host.length;
    });
    const name = host[index] ?? '127.0.0.1';
    // postgres.js takes the name for TLS from here when it has no other: for `sslmode=prefer`.
    return Object.assign(socket, { host: name }).connect(port[index] ?? 5432, name);
  };
}

/**
 * Tells a failure together with the end that follows it, and not one turn of the event loop before it.
 *
 * In between, postgres.js takes the connection for one in use: it sends further statements there, and never hears of them
 * again (3.4.9, `closed` in `connection.js`). Whoever waits for one waits for ever.
 */
class PoolSocket extends Socket {
  #failure: Error | undefined;

  // biome-ignore lint/suspicious/noExplicitAny: as Node declares it
  override emit(event: string | symbol, ...told: any[]): boolean {
    if (event === 'error') {
      this.#failure = told[0];
      return true;
    }
    if (event === 'close' && this.#failure !== undefined) super.emit('error', this.#failure);
    return super.emit(event, ...told);
  }
}
