/**
 * Poolers that give each transaction another connection: PgBouncer in transaction mode, Supavisor, Neon's.
 *
 * Behind one nothing may belong to a session: no setting in the startup packet, no prepared statement with a name, no lock
 * that outlives its transaction.
 */
import pg from 'pg';
import type postgres from 'postgres';
import { parsePostgresAddress } from '../core/postgres-address.ts';
import { NO_TLS_THERE, pgConfig, withCode } from './pg-config.ts';
import { tlsOf } from './tls.ts';

export type PoolerSetting = 'none' | 'transaction';

/**
 * Whether a pooler is there. Asks the server the first time, unless the setting or the address tells; a failure to ask is told to
 * whoever asked, and the next one asks again.
 */
export type Pooling = () => Promise<boolean>;

export function findPooling(url: string, setting?: PoolerSetting): Pooling {
  const isPooler =
    setting === undefined ? parsePostgresAddress(url).isPooler || undefined : setting === 'transaction';
  if (isPooler !== undefined) return async () => isPooler;
  let known: Promise<boolean> | undefined;
  return () => {
    known ??= meetsPooler(url);
    const asked = known;
    asked.catch(() => {
      if (known === asked) known = undefined;
    });
    return asked;
  };
}

/**
 * A server tells each connection the number of its process, to cancel by. A pooler makes such numbers up, and so another number
 * is behind it.
 */
async function meetsPooler(url: string): Promise<boolean> {
  const address = parsePostgresAddress(url);
  const tls = tlsOf(address);
  const ask = async (hostIndex: number, ssl: pg.ClientConfig['ssl']): Promise<boolean> => {
    const client = new pg.Client(pgConfig(address, ssl, 'infill-pooler-check', hostIndex));
    client.on('error', () => undefined);
    try {
      await client.connect();
      const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
      return rows[0]?.pid !== (client as unknown as { processID: number }).processID;
    } catch (error) {
      if (ssl !== false && tls === 'prefer' && NO_TLS_THERE.test((error as Error).message))
        return ask(hostIndex, false);
      throw withCode(error);
    } finally {
      void client.end().catch(() => undefined);
    }
  };
  const hostCount = address.hosts?.length ?? 1;
  for (let hostIndex = 0; ; hostIndex++) {
    try {
      return await ask(hostIndex, tls === 'prefer' ? { rejectUnauthorized: false } : tls);
    } catch (error) {
      if (hostIndex + 1 === hostCount) throw error;
    }
  }
}

type Unsafe = postgres.Sql['unsafe'];
type Work = (connection: postgres.Sql) => Promise<unknown>;

/** A client that sets the bounds of each transaction, and makes a transaction of each statement. */
export function withBounds(client: postgres.Sql, boundsMs: Readonly<Record<string, number>>): postgres.Sql {
  const bounds = Object.entries(boundsMs)
    .map(([name, ms]) => `SET LOCAL ${name} = ${ms}`)
    .join(';');
  const begin = client.begin.bind(client) as unknown as (work: Work) => Promise<unknown>;
  const bounded = (work: Work) =>
    begin(async (connection) => {
      await connection.unsafe(bounds);
      return work(connection);
    });
  const alone: Statement = (asArrays, args) =>
    bounded(async (connection) => {
      const query = connection.unsafe(...args);
      return asArrays ? query.values() : query;
    });
  return { options: client.options, begin: bounded, unsafe: unsafeBy(alone) } as unknown as postgres.Sql;
}

/** A client that uses one of two, as soon as it is known which. */
export function whichever(direct: postgres.Sql, pooled: postgres.Sql, pooling: Pooling): postgres.Sql {
  const pick = async () => ((await pooling()) ? pooled : direct);
  const unsafe = unsafeBy(async (asArrays, args) => {
    const query = (await pick()).unsafe(...args);
    return asArrays ? query.values() : query;
  });
  const begin = async (work: Work) => (await pick()).begin(work as never);
  return { options: direct.options, unsafe, begin } as unknown as postgres.Sql;
}

type Statement = (asArrays: boolean, args: Parameters<Unsafe>) => Promise<unknown>;

/** What Drizzle uses of a query of postgres.js: it is awaited, for rows as objects or as arrays. */
function unsafeBy(run: Statement): Unsafe {
  const unsafe = (...args: Parameters<Unsafe>) => {
    let started: Promise<unknown> | undefined;
    const once = () => {
      started ??= run(false, args);
      return started;
    };
    return {
      // biome-ignore lint/suspicious/noThenProperty: a query is awaited
      then: (...handlers: Parameters<Promise<unknown>['then']>) => once().then(...handlers),
      catch: (handler: Parameters<Promise<unknown>['catch']>[0]) => once().catch(handler),
      values: () => run(true, args),
    };
  };
  return unsafe as unknown as Unsafe;
}
