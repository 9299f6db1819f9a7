import { readFile } from 'node:fs/promises';
import postgres from 'postgres';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hashEmbedding, useEncoder } from '../../dev/openai-server/encoders.ts';
import { DEMO_QUERY, DEMO_TENANT, DEMO_TEXTS } from '../../dev/sample/demo-search.ts';
import { packVectors, unpackVectors } from '../../dev/sample/quantized-vectors.ts';
import { INCIDENT, type SampleRow, sampleRows } from '../../dev/sample/rows.ts';
import {
  completeTexts,
  SAMPLE_DIMENSIONS,
  shippedEmbeddings,
  VECTORS_FILE,
} from '../../dev/sample/shipped-embeddings.ts';
import { createSampleTable, loadSample } from '../../dev/sample/table.ts';
import { SAMPLE_TENANTS } from '../../dev/sample/tenants.ts';
import { createTestDatabase } from '../support/services.ts';

const rows = sampleRows();
const hasText = (row: SampleRow) => row.content !== null && row.content.trim() !== '';
const isMissing = (row: SampleRow) => hasText(row) && !row.embedded;

describe('the sample', () => {
  test('has 2,000 rows of seven tenants, 382 of them missing their embedding', () => {
    expect(rows).toHaveLength(2_000);
    expect(new Set(rows.map((row) => row.tenantId)).size).toBe(7);
    expect(rows.filter(isMissing)).toHaveLength(382);
  });

  test('has the rows of each tenant that its table of tenants announces', () => {
    const counted = SAMPLE_TENANTS.map((tenant) => {
      const own = rows.filter((row) => row.tenantId === tenant.tenantId);
      const blank = own.filter((row) => !hasText(row)).length;
      return { ...tenant, rows: own.length, missing: own.filter(isMissing).length, blank };
    });

    expect(counted).toEqual(SAMPLE_TENANTS);
    expect(SAMPLE_TENANTS.some((tenant) => tenant.ownKey)).toBe(true);
    expect(SAMPLE_TENANTS.some((tenant) => !tenant.ownKey)).toBe(true);
  });

  test('is the same every time, with an id a row', () => {
    expect(sampleRows()).toEqual(rows);
    expect(new Set(rows.map((row) => row.id)).size).toBe(rows.length);
  });

  test('has blank rows of every kind, none of them embedded', () => {
    const blank = rows.filter((row) => !hasText(row));

    expect(blank.length).toBeGreaterThan(20);
    expect(blank.some((row) => row.embedded)).toBe(false);
    for (const kind of ['', null, '   ']) expect(blank.map((row) => row.content)).toContain(kind);
  });

  test('loses most embeddings in the incident and some at any time', () => {
    const inIncident = (row: SampleRow) => row.createdAt >= INCIDENT.from && row.createdAt <= INCIDENT.to;
    const during = rows.filter(inIncident).filter(hasText);

    expect(during.filter(isMissing).length / during.length).toBeGreaterThan(0.8);
    expect(during.some((row) => row.embedded)).toBe(true);
    expect(rows.filter((row) => isMissing(row) && !inIncident(row)).length).toBeGreaterThan(40);
  });

  test('speaks several languages, in texts short and long, without a slot left open', () => {
    const texts = rows.filter(hasText).map((row) => row.content ?? '');
    const lengths = texts.map((text) => text.length);

    for (const script of [/[äöüß]/, /[ぁ-ん]/, /\p{Extended_Pictographic}/u]) {
      expect(texts.some((text) => script.test(text))).toBe(true);
    }
    expect(Math.min(...lengths)).toBeLessThan(40);
    expect(Math.max(...lengths)).toBeGreaterThan(2_000);
    expect(texts.filter((text) => /[{}]/.test(text))).toEqual([]);
    expect(new Set(texts).size).toBeGreaterThan(1_800);
  });
});

describe('its vectors', () => {
  test('are shipped for every complete row, and for the texts as they are now', async () => {
    const vectors = await shippedEmbeddings(completeTexts());

    for (const vector of vectors) {
      expect(vector).toHaveLength(SAMPLE_DIMENSIONS);
      expect(Math.abs(Math.hypot(...vector) - 1)).toBeLessThan(0.01);
    }
    expect((await readFile(VECTORS_FILE)).length).toBeLessThan(1_000_000);
  });

  test('are those of the sentence encoder', async () => {
    const texts = completeTexts().slice(0, 8);
    const exact = await useEncoder().encode(texts, 'use', SAMPLE_DIMENSIONS);

    const shipped = await shippedEmbeddings(texts);

    for (const [index, vector] of shipped.entries()) {
      expect(dot(vector, exact[index] ?? new Float32Array())).toBeGreaterThan(0.999);
    }
  });

  test('are refused when the texts have changed since', async () => {
    const file = packVectors(['one', 'two'], [hashEmbedding('one', 'm', 4), hashEmbedding('two', 'm', 4)]);

    expect([...unpackVectors(file, ['one', 'two']).keys()]).toEqual(['one', 'two']);
    expect(() => unpackVectors(file, ['one', 'TWO'])).toThrow('build-vectors');
    await expect(shippedEmbeddings(['never seen'])).rejects.toThrow('no vector is shipped');
  });
});

test('the demo’s search fits nothing that is complete, and finds what is missing', async () => {
  const own = rows.filter((row) => row.tenantId === DEMO_TENANT);
  const complete = own.flatMap((row) => (row.embedded && row.content !== null ? [row.content] : []));
  const missing = own.filter(isMissing).map((row) => row.content);
  const encoder = useEncoder();
  const [query = new Float32Array()] = await encoder.encode([DEMO_QUERY], 'use', SAMPLE_DIMENSIONS);
  const scores = (vectors: readonly Float32Array[]) =>
    vectors.map((vector) => dot(query, vector)).toSorted((a, b) => b - a);

  const found = scores(await shippedEmbeddings(complete));
  const lost = scores(await encoder.encode(DEMO_TEXTS, 'use', SAMPLE_DIMENSIONS));

  expect(missing).toEqual(expect.arrayContaining([...DEMO_TEXTS]));
  expect(lost[9]).toBeGreaterThan((found[0] ?? 1) + 0.1);
});

describe('the table', () => {
  let database: Awaited<ReturnType<typeof createTestDatabase>>;
  let sql: postgres.Sql;

  beforeAll(async () => {
    database = await createTestDatabase();
    sql = postgres(database.url, { max: 2, onnotice: () => {} });
    await createSampleTable(sql);
    await loadSample(sql, shippedEmbeddings);
  });

  afterAll(async () => {
    await sql.end();
    await database.close();
  });

  test('holds the sample, with the vectors where they belong', async () => {
    const [counts] = await sql`
      SELECT count(*)::int AS rows, count(embedding)::int AS embedded,
             count(*) FILTER (WHERE embedding IS NULL AND content ~ '[^[:space:]]')::int AS missing
        FROM workflow_insights`;
    expect(counts).toEqual({
      rows: 2_000,
      embedded: rows.filter((row) => row.embedded).length,
      missing: 382,
    });

    const row = rows.find((candidate) => candidate.embedded);
    const [vector = new Float32Array()] = await shippedEmbeddings([row?.content ?? '']);
    const [stored] = await sql`
      SELECT content, created_at AS "createdAt", embedding::text AS embedding
        FROM workflow_insights WHERE id = ${row?.id ?? ''}`;
    expect(stored).toMatchObject({ content: row?.content, createdAt: row?.createdAt });
    expect(dot(vector, Float32Array.from(JSON.parse(stored?.embedding)))).toBeCloseTo(dot(vector, vector), 4);
  });

  test('is created and loaded again without harm', async () => {
    await sql`UPDATE workflow_insights SET content = 'edited' WHERE id = ${rows[0]?.id ?? ''}`;

    await createSampleTable(sql);
    expect(await loadSample(sql, shippedEmbeddings)).toBe(2_000);

    expect(await sql`SELECT count(*)::int AS n FROM workflow_insights`).toEqual([{ n: 2_000 }]);
    expect(await sql`SELECT content FROM workflow_insights WHERE id = ${rows[0]?.id ?? ''}`).toEqual([
      { content: 'edited' },
    ]);
  });
});

function dot(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, value, index) => sum + value * (b[index] ?? 0), 0);
}
