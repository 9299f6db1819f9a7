/** The connections that batches end on: transactions of prepared statements, each sent in one go, with vectors in binary. */
import { randomBytes } from 'node:crypto';
import type { SQL } from 'drizzle-orm';
import { PgDialect } from 'drizzle-orm/pg-core';
import pg from 'pg';
import { parsePostgresAddress } from '../core/postgres-address.ts';
import type { DatabaseOptions } from './client.ts';
import { NO_TLS_THERE, pgConfig, withCode } from './pg-config.ts';
import { findPooling } from './pooler.ts';
import { tlsOf } from './tls.ts';

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

const IDLE_MS_MAX = 60_000;
/** Says that an earlier statement of the transaction failed, which is the one to tell. */
const ABORTED = '25P02';
/** read_only_sql_transaction: a standby. */
const READ_ONLY = '25006';

const dialect = new PgDialect();

/**
 * Opens the lane; connects on first use.
 *
 * By `pg` and not by postgres.js, which writes every parameter as text (docs/decisions/0015-binary-lane.md).
 */
export function openLane(
  url: string,
  { connectionsMax, applicationName, pooling = findPooling(url) }: DatabaseOptions,
): LaneConnections {
  const address = parsePostgresAddress(url);
  const hostCount = address.hosts?.length ?? 1;
  const tls = tlsOf(address);
  let ssl = tls === 'prefer' ? { rejectUnauthorized: false } : tls;
  let hostIndex = 0;
  const open = () => openPool(pgConfig(address, ssl, applicationName, hostIndex), connectionsMax);
  let pool = open();
  const reopen = () => {
    void pool.end().catch(ignore);
    pool = open();
  };
  /** The next host may be the one that takes writes. */
  const moveOn = (from: pg.Pool) => {
    if (hostCount === 1 || pool !== from) return;
    hostIndex = (hostIndex + 1) % hostCount;
    reopen();
  };
  const connect = async () => {
    const from = pool;
    try {
      return { client: await from.connect(), from };
    } catch (error) {
      if (tls !== 'prefer' || !NO_TLS_THERE.test((error as Error).message)) {
        moveOn(from);
        throw withCode(error);
      }
      if (pool === from) {
        ssl = false;
        reopen();
      }
      return { client: await pool.connect(), from: pool };
    }
  };

  return {
    async transaction(statements, { lockMs, statementMs }) {
      // Behind a pooler another connection would not know a statement by its name.
      const prepare = !(await pooling());
      const { client, from } = await connect();
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
        if ((failure as { code?: unknown } | undefined)?.code === READ_ONLY) moveOn(from);
        if (failure !== undefined) throw withCode(failure);
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

function openPool(config: pg.ClientConfig, connectionsMax: number): pg.Pool {
  const pool = new pg.Pool({
    ...config,
    max: connectionsMax,
    idleTimeoutMillis: IDLE_MS_MAX,
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
