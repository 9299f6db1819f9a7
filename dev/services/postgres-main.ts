/**
 * The process behind `startEmbeddedPostgres`: a PGlite with pgvector, served on a free loopback port. Own process,
 * because a query in WebAssembly blocks the event loop that it runs on.
 *
 * `node postgres-main.ts [folder] [--discard]`; in memory without a folder.
 */
import { parseArgs } from 'node:util';
import { PGlite } from '@electric-sql/pglite';
import { citext } from '@electric-sql/pglite/contrib/citext';
import { vector } from '@electric-sql/pglite-pgvector';
import { onParentGone } from './child-service.ts';
import { servePglite } from './pglite-server.ts';

const { values, positionals } = parseArgs({
  options: { discard: { type: 'boolean' } },
  allowPositionals: true,
});
const [folder] = positionals;
const worthKeeping = folder !== undefined && !values.discard;
// Before the seconds that a new database takes, unless ending in the middle of them would leave half a folder.
if (!worthKeeping) onParentGone();

const db = await PGlite.create({
  ...(folder !== undefined && { dataDir: folder }),
  extensions: { vector, citext },
  // Small WAL files: a new cluster is 8 MB smaller and quicker to copy. Only used when the folder is empty.
  initDbStartParams: ['--wal-segsize=1'],
});
if (worthKeeping) onParentGone(() => db.close());

const port = await servePglite(db, (error) => {
  console.error('embedded Postgres gave up:', error);
  process.exit(1);
});
const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
console.log(JSON.stringify({ url, pid: process.pid }));
