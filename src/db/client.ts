import { readFileSync } from 'node:fs';
import { isIP, Socket } from 'node:net';
import { type ConnectionOptions, checkServerIdentity, type PeerCertificate } from 'node:tls';
import type { ExtractTablesWithRelations } from 'drizzle-orm';
import type { PgDatabase } from 'drizzle-orm/pg-core';
import { drizzle, type PostgresJsQueryResultHKT } from 'drizzle-orm/postgres-js';
import postgres from 'postgres';
import { type PostgresAddress, parsePostgresAddress } from '../core/postgres-address.ts';
import { ARRAY_TYPES } from './array-types.ts';
import { withPrepared } from './prepared.ts';
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
  /**
   * Whether statements are prepared, once a connection. Not behind a pooler that gives each transaction another connection.
   * Default: true.
   */
  readonly prepare?: boolean;
  /** Without bounds a statement takes, and waits, as long as it likes: for a migration that queues behind another. */
  readonly unbounded?: boolean;
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
  const address = parsePostgresAddress(url);
  // Not the URL itself: postgres.js would read it in its own way, and send what it does not know to the server.
  const client = postgres({
    host: address.hosts?.map(({ host }) => host),
    port: address.hosts?.map(({ port }) => port),
    path: address.socketPath,
    user: address.user,
    pass: address.password,
    database: address.database,
    ssl: tlsOf(address),
    max: options.connectionsMax,
    prepare: options.prepare ?? true,
    connect_timeout: address.connectSeconds ?? CONNECT_SECONDS,
    idle_timeout: 60,
    backoff: (retries: number) => Math.min(0.05 * 2 ** retries, RECONNECT_SECONDS_MAX),
    onnotice: () => undefined,
    fetch_types: false,
    types: ARRAY_TYPES,
    connection: {
      application_name: address.applicationName ?? options.applicationName,
      ...(address.options === undefined ? {} : { options: address.options }),
      ...(options.unbounded ? {} : BOUNDS_MS),
    },
    socket: openSocket,
  } as unknown as postgres.Options<Record<string, never>>);

  return {
    db: drizzle(withSafeTransactions(withPrepared(client, options.prepare ?? true))) as unknown as Db,
    close: () => client.end({ timeout: CLOSE_SECONDS_MAX }),
  };
}

/**
 * What each `sslmode` means, as in libpq, but that `allow` is the same as `prefer`. Without `sslrootcert` the two modes
 * that verify trust the certificate authorities that Node trusts.
 */
export function tlsOf({ ssl, hosts, socketPath }: PostgresAddress): false | 'prefer' | ConnectionOptions {
  if (ssl.mode === 'disable' || socketPath !== undefined) return false;
  if (ssl.mode === 'allow' || ssl.mode === 'prefer') return 'prefer';
  const host = hosts?.[0]?.host ?? 'localhost';
  const hasOwnRoot = ssl.rootCertificate !== undefined && ssl.rootCertificate !== 'system';
  return {
    // postgres.js hands Node an open socket, so that Node knows no host: it would send no name, and compare with "localhost".
    servername: isIP(host) ? '' : host,
    checkServerIdentity: (_name: string, certificate: PeerCertificate) =>
      ssl.mode === 'verify-full' ? checkServerIdentity(host, certificate) : undefined,
    rejectUnauthorized: ssl.mode !== 'require' || hasOwnRoot,
    ...(hasOwnRoot ? { ca: certificateFile('sslrootcert', ssl.rootCertificate) } : {}),
    ...(ssl.certificate === undefined ? {} : { cert: certificateFile('sslcert', ssl.certificate) }),
    ...(ssl.key === undefined ? {} : { key: certificateFile('sslkey', ssl.key) }),
  };
}

function certificateFile(parameter: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Error(`DATABASE_URL: cannot read the file that ${parameter} names (${code})`);
  }
}

/**
 * postgres.js leaves Nagle's algorithm on, which costs a large statement up to 40 ms a round trip.
 *
 * The socket is returned while it still connects: Node holds back what is written until then, and a failure reaches
 * postgres.js through the socket's own events, so that it frees the connection. A promise that rejects would leak it.
 */
function openSocket({ host, port, path }: { host: string[]; port: number[]; path?: string | false }): Socket {
  const socket = new PoolSocket().setNoDelay(true);
  if (path) return socket.connect({ path });
  const name = host[0] ?? '127.0.0.1';
  // postgres.js takes the name for TLS from here when it has no other: for `sslmode=prefer`.
  return Object.assign(socket, { host: name }).connect(port[0] ?? 5432, name);
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
