/** The connections that batches end on: transactions of prepared statements, each sent in one go, with vectors in binary. */
import { randomBytes } from 'node:crypto';
import { dirname } from 'node:path';
import type { SQL } from 'drizzle-orm';
import { PgDialect } from 'drizzle-orm/pg-core';
import pg from 'pg';
import { type PostgresAddress, parsePostgresAddress } from '../core/postgres-address.ts';
import { type DatabaseOptions, tlsOf } from './client.ts';

export type LaneRow = Readonly<Record<string, unknown>>;

export type Lane = {
  /**
   * Runs statements in one transaction and one round trip, and returns the rows of each.
   *
   * All of them are sent before the first is answered, so none can depend in Node on what another returned. Nothing is
   * written when one fails: the error is that of the first that did.
   *
   * @param bounds of the transaction, in milliseconds.
   */
  transaction(statements: readonly SQL[], bounds: LaneBounds): Promise<LaneRow[][]>;
};

export type LaneBounds = { readonly lockMs: number; readonly statementMs: number };

export type LaneConnections = Lane & { close(): Promise<void> };

const CONNECT_MS_MAX = 5_000;
const IDLE_MS_MAX = 60_000;
/** Says that an earlier statement of the transaction failed, which is the one to tell. */
const ABORTED = '25P02';

const dialect = new PgDialect();

/**
 * Opens the lane; connects on first use.
 *
 * By `pg` and not by postgres.js, which writes every parameter as text (docs/decisions/0015-binary-lane.md).
 */
export function openLane(
  url: string,
  { connectionsMax, applicationName, prepare = true }: DatabaseOptions,
): LaneConnections {
  const address = parsePostgresAddress(url);
  const tls = tlsOf(address);
  const open = (ssl: pg.PoolConfig['ssl']) =>
    openPool(address, ssl, { max: connectionsMax, application_name: applicationName });
  let pool = open(tls === 'prefer' ? { rejectUnauthorized: false } : tls);
  const connect = () =>
    pool.connect().catch((error: Error) => {
      if (tls !== 'prefer' || !NO_TLS_THERE.test(error.message)) throw asGone(error);
      pool = open(false);
      return pool.connect();
    });

  return {
    async transaction(statements, { lockMs, statementMs }) {
      const client = await connect();
      let broken: boolean = true;
      // A connection that breaks says so here as well as by its queries.
      client.on('error', ignore);
      try {
        const begin = `BEGIN; SET LOCAL lock_timeout = ${lockMs}; SET LOCAL statement_timeout = ${statementMs}`;
        const answers = await Promise.allSettled([
          client.query(begin),
          ...statements.map((statement) => client.query(queryOf(client, statement, prepare))),
          client.query('COMMIT'),
        ]);
        const failures = answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason] : []));
        const failure =
          failures.find((error) => (error as { code?: unknown }).code !== ABORTED) ?? failures[0];
        // A statement that Postgres refused leaves a sound connection: the COMMIT behind it rolled back.
        broken = failures.some((error) => !(error instanceof pg.DatabaseError));
        if (failure !== undefined) throw asGone(failure);
        return answers
          .slice(1, -1)
          .map((answer) => (answer.status === 'fulfilled' ? (answer.value.rows as LaneRow[]) : []));
      } finally {
        client.off('error', ignore);
        client.release(broken);
      }
    },
    close: () => pool.end(),
  };
}

/** What `pg` says of a server without TLS: `prefer` then goes on without. */
const NO_TLS_THERE = /does not support SSL/;

function openPool(
  { hosts, socketPath, user, password, database, options, connectSeconds, applicationName }: PostgresAddress,
  ssl: pg.PoolConfig['ssl'],
  rest: pg.PoolConfig,
): pg.Pool {
  const [first] = hosts ?? [];
  const pool = new pg.Pool({
    ...rest,
    // `pg` takes the folder of a socket for a host.
    host: socketPath === undefined ? (first?.host ?? '127.0.0.1') : dirname(socketPath),
    port: first?.port ?? Number(socketPath?.split('.').at(-1) ?? 5_432),
    user,
    password,
    database,
    options,
    ssl,
    application_name: applicationName ?? rest.application_name,
    connectionTimeoutMillis: connectSeconds === undefined ? CONNECT_MS_MAX : connectSeconds * 1_000,
    idleTimeoutMillis: IDLE_MS_MAX,
    keepAlive: true,
    pipeline: true,
  } as pg.PoolConfig);
  // An idle connection that breaks is replaced by the pool; without a listener Node would end the process.
  pool.on('error', () => undefined);
  return pool;
}

const ignore = () => undefined;

function queryOf(client: pg.PoolClient, statement: SQL, prepare: boolean): pg.QueryConfig {
  const { sql: text, params } = dialect.sqlToQuery(statement);
  return { text, values: params, ...(prepare && { name: nameOf(client, text) }) };
}

/** The statements that each connection has prepared. They differ by their target alone, so there are few. */
const prepared = new WeakMap<pg.PoolClient, { readonly id: string; readonly names: Map<string, string> }>();

/** A name that no other connection uses: the embedded Postgres shares one session between all of them. */
function nameOf(client: pg.PoolClient, text: string): string {
  let known = prepared.get(client);
  if (known === undefined) {
    known = { id: randomBytes(6).toString('hex'), names: new Map() };
    prepared.set(client, known);
  }
  let name = known.names.get(text);
  if (name === undefined) {
    name = `infill_${known.id}_${known.names.size}`;
    known.names.set(text, name);
  }
  return name;
}

/** `pg` gives its own errors of a connection no code. */
function asGone(error: unknown): unknown {
  if (error instanceof pg.DatabaseError || (error as { code?: unknown }).code !== undefined) return error;
  const { message } = error as Error;
  return Object.assign(new Error(`The connection to Postgres is lost: ${message}`, { cause: error }), {
    code: 'CONNECTION_CLOSED',
  });
}
