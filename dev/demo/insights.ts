/** What the demo reads from the user's table, past the product, so that nothing is believed that was not counted. */
import type { Sql } from 'postgres';
import { SAMPLE_DIMENSIONS } from '../sample/shipped-embeddings.ts';
import { DemoFailure } from './failure.ts';

export type TenantCoverage = {
  readonly tenantId: string;
  readonly rows: number;
  readonly embedded: number;
  /** Text, and no embedding. */
  readonly missing: number;
  /** Nothing to embed. */
  readonly blank: number;
};

export type Found = { readonly id: string; readonly content: string; readonly similarity: number };

/** Coverage of each tenant, the largest first. */
export async function readCoverage(sql: Sql): Promise<TenantCoverage[]> {
  return [
    ...(await sql<TenantCoverage[]>`
      SELECT tenant_id AS "tenantId", count(*)::int AS "rows", count(embedding)::int AS "embedded",
             count(*) FILTER (WHERE embedding IS NULL AND content ~ '[^[:space:]]')::int AS "missing",
             count(*) FILTER (WHERE embedding IS NULL AND (content ~ '[^[:space:]]') IS NOT TRUE)::int AS "blank"
        FROM workflow_insights GROUP BY tenant_id ORDER BY count(*) DESC`),
  ];
}

export async function missingIds(sql: Sql): Promise<string[]> {
  const rows = await sql<{ id: string }[]>`
    SELECT id FROM workflow_insights WHERE embedding IS NULL AND content ~ '[^[:space:]]'`;
  return rows.map(({ id }) => id);
}

/** Takes the embeddings of these rows away. */
export async function loseEmbeddings(sql: Sql, ids: readonly string[]): Promise<void> {
  await sql`UPDATE workflow_insights SET embedding = NULL WHERE id = ANY(${ids as string[]}::uuid[])`;
}

/** The rows of a tenant nearest to a vector: the search that a product would run. */
export async function search(
  sql: Sql,
  { tenantId, vector, limit }: { tenantId: string; vector: readonly number[]; limit: number },
): Promise<Found[]> {
  const query = `[${vector.join(',')}]`;
  return [
    ...(await sql<Found[]>`
      SELECT id, content, 1 - (embedding <=> ${query}::vector) AS similarity
        FROM workflow_insights
       WHERE tenant_id = ${tenantId} AND embedding IS NOT NULL
       ORDER BY embedding <=> ${query}::vector
       LIMIT ${limit}`),
  ];
}

/** Embeds what somebody searches for, as a product would, straight at the provider. */
export async function embedQuery(baseUrl: string, apiKey: string, query: string): Promise<number[]> {
  const answer = await fetch(`${baseUrl}/embeddings`, {
    method: 'POST',
    headers: { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'text-embedding-3-small', dimensions: SAMPLE_DIMENSIONS, input: query }),
  });
  if (!answer.ok) throw new DemoFailure(`The query could not be embedded: status ${answer.status}.`);
  const { data } = (await answer.json()) as { data: { embedding: number[] }[] };
  return data[0]?.embedding ?? [];
}
