/** A PgBouncer of a test's own before a real PostgreSQL, in transaction mode with the settings that Debian ships. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findProgram } from '../../dev/services/debian-package.ts';
import { freePort } from './process.ts';
import { until } from './system.ts';

export type PgBouncer = { readonly url: string; close(): Promise<void> };

/** The user of Debian that may not do anything: PgBouncer refuses to run as root. */
const NOBODY = { uid: 65_534, gid: 65_534 };

/**
 * @param lines further lines of the section `[pgbouncer]`.
 * @param poolSize connections to PostgreSQL: with fewer than clients, each transaction meets another one.
 */
export async function startPgBouncer(
  databaseUrl: string,
  { lines = [], poolSize = 3 }: { lines?: readonly string[]; poolSize?: number } = {},
): Promise<PgBouncer> {
  const binary = findProgram('pgbouncer', 'pgbouncer was not found on PATH: install it and try again');
  const database = new URL(databaseUrl);
  const port = await freePort();
  const folder = await mkdtemp(join(tmpdir(), 'infill-pgbouncer-'));
  const name = database.pathname.slice(1);
  const server = `host=${database.hostname} port=${database.port || 5432} dbname=${name}`;
  const login = `user=${decodeURIComponent(database.username) || 'postgres'}${database.password === '' ? '' : ` password=${decodeURIComponent(database.password)}`}`;
  await writeFile(
    join(folder, 'pgbouncer.ini'),
    [
      '[databases]',
      `${name} = ${server} ${login}`,
      '[pgbouncer]',
      `listen_addr = 127.0.0.1`,
      `listen_port = ${port}`,
      'unix_socket_dir =',
      'auth_type = any',
      'pool_mode = transaction',
      `default_pool_size = ${poolSize}`,
      'max_client_conn = 500',
      ...lines,
      '',
    ].join('\n'),
  );
  const isRoot = process.getuid?.() === 0;
  await chmod(folder, 0o755);
  if (isRoot) await chown(folder, NOBODY.uid, NOBODY.gid);
  const child = spawn(binary, [join(folder, 'pgbouncer.ini')], { stdio: 'ignore', ...(isRoot && NOBODY) });
  const close = async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    await rm(folder, { recursive: true, force: true });
  };
  const url = new URL(databaseUrl);
  url.hostname = '127.0.0.1';
  url.port = String(port);
  try {
    await until(() => answers(port), 'pgbouncer listens');
  } catch (error) {
    await close();
    throw error;
  }
  return { url: url.href, close };
}

async function answers(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
