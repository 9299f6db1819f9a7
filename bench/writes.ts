/** What writing costs: turning vectors into text, the shape of the statement, and an HNSW index on the column. */
import { sql as fragment } from 'drizzle-orm';
import type { Sql } from 'postgres';
import { hashEmbedding } from '../dev/openai-server/encoders.ts';
import { vectorArrayBytes } from '../src/core/vector-wire.ts';
import type { CheckedTarget } from '../src/db/catalog.ts';
import { openDatabase as connect, type Db } from '../src/db/client.ts';
import { createInspector } from '../src/db/inspector.ts';
import { type Lane, openLane } from '../src/db/lane.ts';
import { writeSql } from '../src/db/target-writes.ts';
import { watchStatements } from './longest-statements.ts';
import { median, printTable, quantile, round } from './report.ts';
import { addRows, inWorld, MODEL, openDatabase } from './world.ts';

const DIMENSIONS = 1_536;
const ROUNDS = 7;

export async function writes(): Promise<void> {
  benchVectors();
  await benchStatement();
  await benchIndex();
}

/** Writing vectors for the wire, without a database. */
function benchVectors(): void {
  const vectors = Array.from({ length: 500 }, (_, index) =>
    hashEmbedding(`text ${index}`, MODEL, DIMENSIONS),
  );
  const ways = {
    'binary, `vectorArrayBytes`': () => vectorArrayBytes(vectors, 1),
    'text, `JSON.stringify` of an array': () => vectors.map((vector) => JSON.stringify([...vector])),
  };
  const times = rounds(ways, (way) => {
    const startedMs = performance.now();
    way();
    return (performance.now() - startedMs) / vectors.length;
  });
  const [ours = 1] = [...times.values()];
  printTable(
    `A vector of ${DIMENSIONS} dimensions for the wire (median of ${ROUNDS})`,
    ['way', 'ms a vector', 'times ours'],
    [...times].map(([name, ms]) => [name, round(ms, 4), round(ms / ours, 1)]),
  );
}

/** The product's statement (binary) and the obvious other one (text), on the same rows. */
async function benchStatement(): Promise<void> {
  await inDatabase(async ({ db, lane, sql, target }) => {
    const rowsAtOnce = 256;
    await addRows(sql, 'acme', rowsAtOnce);
    const found = await sql<{ rowId: string; text: string; textHash: string }[]>`
      SELECT id::text AS "rowId", content AS "text", encode(sha256(convert_to(content, 'UTF8')), 'hex') AS "textHash" FROM notes`;
    const rows = found.map((row) => ({ ...row, vector: hashEmbedding(row.text, MODEL, DIMENSIONS) }));
    const binary = () =>
      lane.transaction(
        [
          fragment`WITH ${writeSql(target, 'acme', rows, fragment`true`).ctes} SELECT id, outcome FROM outcome`,
        ],
        { lockMs: 2_000, statementMs: 15_000 },
      );
    const ways = { binary, 'text in VALUES': () => writeAsText(db, rows) };
    const times = new Map<string, number[]>(Object.keys(ways).map((name) => [name, []]));
    for (let turn = 0; turn < ROUNDS + 1; turn++) {
      for (const [name, way] of Object.entries(ways)) {
        await sql`UPDATE notes SET embedding = NULL`;
        await sql`VACUUM notes`;
        const startedMs = performance.now();
        await way();
        if (turn > 0) times.get(name)?.push(performance.now() - startedMs);
      }
    }
    const base = median(times.get('binary') ?? []);
    printTable(
      `An UPDATE of ${rowsAtOnce} rows of ${DIMENSIONS} dimensions, no index on the column (median of ${ROUNDS})`,
      ['way', 'ms', 'rows/s', 'times ours'],
      [...times].map(([name, all]) => [
        name,
        round(median(all)),
        round((rowsAtOnce / median(all)) * 1_000),
        round(median(all) / base, 2),
      ]),
    );
  });
}

async function writeAsText(
  db: Db,
  rows: readonly { rowId: string; textHash: string; vector: Float32Array }[],
): Promise<void> {
  const values = rows.map(
    ({ rowId, textHash, vector }) =>
      fragment`(${rowId}::bigint, ${textHash}::text, ${JSON.stringify([...vector])}::vector)`,
  );
  await db.execute(fragment`
    UPDATE notes AS t SET embedding = e.embedding
      FROM (VALUES ${fragment.join(values, fragment`, `)}) AS e (id, text_hash, embedding)
     WHERE t.id = e.id AND t.tenant_id = 'acme' AND t.embedding IS NULL
       AND encode(sha256(convert_to(t.content, 'UTF8')), 'hex') = e.text_hash`);
}

const INDEXED_ROWS = 20_000;
const MISSING_ROWS = 2_000;

/** A whole run, by one worker of 16 slots, on a table whose column has an HNSW index of 20,000 vectors. */
async function benchIndex(): Promise<void> {
  await inWorld({ workers: 1, slots: 16, dimensions: DIMENSIONS }, async (world) => {
    await addIndexedRows(world.sql);
    await addRows(world.sql, 'acme', MISSING_ROWS / 2);
    await addRows(world.sql, 'globex', MISSING_ROWS / 2);
    const watch = watchStatements(world.databaseUrl, 'infill-worker', '%UPDATE "public"."notes"%');
    const run = await world.settled(await world.start('?batchSize=50'));
    const statements = await watch.stop();
    const seconds = (Date.parse(run.settledAt) - Date.parse(run.createdAt)) / 1_000;
    const later = statements.slice(3).map(({ ms }) => ms);
    printTable(
      `Statements of a run on ${MISSING_ROWS} rows with an HNSW index of ${INDEXED_ROWS} vectors of ${DIMENSIONS} dimensions`,
      [
        'status',
        'rows/s',
        'statements seen',
        'first three, ms',
        'median after, ms',
        'p95 after, ms',
        'longest after, ms',
        'over 1 s after',
      ],
      [
        [
          run.status,
          round(MISSING_ROWS / seconds),
          statements.length,
          statements
            .slice(0, 3)
            .map(({ ms }) => round(ms))
            .join(', '),
          round(median(later)),
          round(quantile(later, 0.95)),
          round(Math.max(...later)),
          later.filter((ms) => ms > 1_000).length,
        ],
      ],
    );
  });
}

async function addIndexedRows(sql: Sql): Promise<void> {
  // Made in the database: sending 20,000 vectors takes longer than drawing them there.
  await sql`
    INSERT INTO notes (tenant_id, content, embedding)
    SELECT 'acme', 'old ' || n, (SELECT array_agg(random() - 0.5 + 0 * (n + d)) FROM generate_series(1, ${DIMENSIONS}::int) AS d)::real[]::vector
      FROM generate_series(1, ${INDEXED_ROWS}::int) AS n`;
  await sql.unsafe(`SET maintenance_work_mem = '400MB'`);
  await sql`CREATE INDEX ON notes USING hnsw (embedding vector_cosine_ops)`;
}

function rounds<Way>(
  ways: Readonly<Record<string, Way>>,
  measure: (way: Way) => number,
): Map<string, number> {
  const times = new Map<string, number[]>(Object.keys(ways).map((name) => [name, []]));
  // In turns, so that what else the machine does meets all alike; the first turn compiles.
  for (let turn = 0; turn < ROUNDS + 1; turn++) {
    for (const [name, way] of Object.entries(ways)) {
      const ms = measure(way);
      if (turn > 0) times.get(name)?.push(ms);
    }
  }
  return new Map([...times].map(([name, all]) => [name, median(all)]));
}

async function inDatabase(
  use: (open: { db: Db; lane: Lane; sql: Sql; target: CheckedTarget }) => Promise<void>,
): Promise<void> {
  const opened: (() => Promise<unknown>)[] = [];
  try {
    const { sql, url } = await openDatabase(DIMENSIONS, opened);
    const database = connect(url, { connectionsMax: 2, applicationName: 'infill-bench' });
    opened.push(() => database.close());
    const lane = openLane(url, { connectionsMax: 1, applicationName: 'infill-bench' });
    opened.push(() => lane.close());
    const described = {
      name: 'notes',
      schema: 'public',
      table: 'notes',
      id: 'id',
      tenant: 'tenant_id',
      text: ['content'],
      embedding: 'embedding',
      model: MODEL,
      dimensions: DIMENSIONS,
      onTooLong: 'quarantine' as const,
    };
    const state = await createInspector(database.db, new Map([['notes', described]]))('notes');
    if (state?.kind !== 'ready') throw new Error(state?.detail);
    await use({ db: database.db, lane, sql, target: state.target });
  } finally {
    for (const close of opened.toReversed()) await close().catch(() => undefined);
  }
}
