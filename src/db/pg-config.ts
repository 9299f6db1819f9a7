/** What `pg` needs to connect to an address. */
import { dirname } from 'node:path';
import type pg from 'pg';
import type { PostgresAddress } from '../core/postgres-address.ts';

const CONNECT_MS_MAX = 5_000;

/** What `pg` says of a server without TLS: `sslmode=prefer` then goes on without. */
export const NO_TLS_THERE = /does not support SSL/;

export function pgConfig(
  { hosts, socketPath, user, password, database, options, connectSeconds, applicationName }: PostgresAddress,
  ssl: pg.ClientConfig['ssl'],
  applicationNameDefault: string,
  hostIndex = 0,
): pg.ClientConfig {
  const chosen = hosts?.[hostIndex % hosts.length];
  return {
    // `pg` takes the folder of a socket for a host.
    host: socketPath === undefined ? (chosen?.host ?? '127.0.0.1') : dirname(socketPath),
    port: chosen?.port ?? Number(socketPath?.split('.').at(-1) ?? 5_432),
    user,
    password,
    database,
    options,
    ssl,
    application_name: applicationName ?? applicationNameDefault,
    connectionTimeoutMillis: connectSeconds === undefined ? CONNECT_MS_MAX : connectSeconds * 1_000,
    keepAlive: true,
  };
}

/** `pg` gives its own errors of a connection no code. */
export function withCode(error: unknown): unknown {
  if ((error as { code?: unknown }).code !== undefined) return error;
  const { message } = error as Error;
  return Object.assign(new Error(`The connection to Postgres is lost: ${message}`, { cause: error }), {
    code: 'CONNECTION_CLOSED',
  });
}
