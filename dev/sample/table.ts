import type { Sql } from 'postgres';
import { type SampleRow, sampleRows } from './rows.ts';
import { SAMPLE_DIMENSIONS } from './shipped-embeddings.ts';

/** Rows of one INSERT: about 1 MB of vectors as text. */
const INSERT_ROWS_MAX = 250;

/** Decimals of a number of a vector. A shipped one has 127 steps, so six lose nothing. */
const VECTOR_DECIMALS = 6;

/**
 * Creates the table `workflow_insights` as a product would have it, with the index by which a backfill finds its rows.
 *
 * Safe to repeat. Belongs to the demo and the tests: the product's migrations never create a user's table.
 */
export async function createSampleTable(sql: Sql): Promise<void> {
  await sql`CREATE EXTENSION IF NOT EXISTS vector`;
  await sql`
    CREATE TABLE IF NOT EXISTS workflow_insights (
      id uuid PRIMARY KEY,
      tenant_id text NOT NULL,
      content text,
      embedding vector(${sql.unsafe(String(SAMPLE_DIMENSIONS))}),
      created_at timestamptz NOT NULL
    )`;
  await sql`
    CREATE INDEX IF NOT EXISTS workflow_insights_missing ON workflow_insights (tenant_id, id) WHERE embedding IS NULL`;
}

/**
 * Inserts the sample into the table, all of it or nothing, and returns the number of rows; `embed` gives the vectors of
 * the complete ones (for the real ones, `shippedEmbeddings`).
 *
 * On a second call it does nothing for rows that exist, whatever became of them.
 */
export async function loadSample(
  sql: Sql,
  embed: (texts: readonly string[]) => Promise<readonly Float32Array[]>,
): Promise<number> {
  const rows = sampleRows();
  await sql.begin(async (tx) => {
    for (let start = 0; start < rows.length; start += INSERT_ROWS_MAX) {
      const part = rows.slice(start, start + INSERT_ROWS_MAX);
      const vectors = await vectorsOf(part, embed);
      await tx`
        INSERT INTO workflow_insights (id, tenant_id, content, embedding, created_at)
        SELECT id, tenant_id, content, embedding::vector, created_at
          FROM unnest(${part.map((row) => row.id)}::uuid[], ${part.map((row) => row.tenantId)}::text[],
                      ${part.map((row) => row.content)}::text[], ${vectors}::text[],
                      ${part.map((row) => row.createdAt.toISOString())}::timestamptz[])
            AS sample (id, tenant_id, content, embedding, created_at)
        ON CONFLICT (id) DO NOTHING`;
    }
  });
  return rows.length;
}

/** The vector of each row as pgvector reads it, null for a row that has none. */
async function vectorsOf(
  rows: readonly SampleRow[],
  embed: (texts: readonly string[]) => Promise<readonly Float32Array[]>,
): Promise<(string | null)[]> {
  const texts = rows.flatMap((row) => (row.embedded && row.content !== null ? [row.content] : []));
  const vectors = (await embed(texts)).values();
  return rows.map((row) => (row.embedded ? vectorText(vectors.next().value) : null));
}

function vectorText(vector: Float32Array | undefined): string {
  if (vector === undefined) throw new Error('fewer vectors than texts');
  return `[${Array.from(vector, (value) => value.toFixed(VECTOR_DECIMALS)).join(',')}]`;
}
