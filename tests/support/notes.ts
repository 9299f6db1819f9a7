/** The table that most tests fill: `notes (id bigint, tenant_id, content, embedding)`. */
import type postgres from 'postgres';

export type NewNote = { readonly tenant: string | null; readonly text: string | null };

export async function createNotes(
  sql: postgres.Sql,
  { dimensions, withIndex }: { dimensions: number; withIndex: boolean },
): Promise<void> {
  await sql.unsafe(`
    CREATE TABLE notes (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, tenant_id text, content text, embedding vector(${dimensions}))`);
  if (withIndex)
    await sql.unsafe('CREATE INDEX notes_missing ON notes (tenant_id, id) WHERE embedding IS NULL');
}

export async function addNotes(sql: postgres.Sql, rows: readonly NewNote[]): Promise<void> {
  await sql`
    INSERT INTO notes (tenant_id, content)
    SELECT * FROM unnest(${rows.map((row) => row.tenant)}::text[], ${rows.map((row) => row.text)}::text[])`;
}
