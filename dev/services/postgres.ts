import { type ChildService, startChildService } from './child-service.ts';

/**
 * Starts an embedded Postgres (PGlite) with pgvector available as its own process, on a free loopback port.
 *
 * Takes about 4 s for a new database and 1 s for a folder that holds one. Without `folder` it lives in memory.
 * With `discard`, closing does not wait until the folder is in order: for one that is thrown away afterwards.
 *
 * What it cannot do that a real server does is told at `servePglite`: it is one shared session, good to try and to
 * test on.
 *
 * @throws {Error} when the process cannot start, for instance because the folder holds something else.
 */
export function startEmbeddedPostgres({
  folder,
  discard = false,
}: {
  folder?: string;
  discard?: boolean;
} = {}): Promise<ChildService> {
  const entry = new URL('./postgres-main.ts', import.meta.url);
  return startChildService(entry, [
    ...(folder === undefined ? [] : [folder]),
    ...(discard ? ['--discard'] : []),
  ]);
}
