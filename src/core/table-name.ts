/** Reads the name of a table as SQL reads it: names in double quotes, a schema before a dot. */

/** Source: PostgreSQL's documentation, "Identifiers and Key Words": NAMEDATALEN - 1. */
export const NAME_BYTES_MAX = 63;

export type TableName = {
  readonly schema: string;
  readonly table: string;
  /** The name that SQL takes names without quotes for, where that is another one. */
  readonly folded?: { readonly schema: string; readonly table: string } | undefined;
};

const DEFAULT_SCHEMA = 'public';

/** A name in double quotes, where two of them stand for one; or anything without a dot. */
const QUOTED = '"(?:[^"]|"")+"';
const PART = `${QUOTED}|[^".\\s][^.]*?`;
const NAME = new RegExp(`^\\s*(?:(${PART})\\s*\\.\\s*)?(${PART})\\s*$`);

/**
 * Reads `notes`, `crm.notes`, `"My Schema"."a.b"`. Returns undefined for what is none of these.
 *
 * Names without quotes are kept as written: the catalog then takes the table of exactly that name, or the one in lower case, as
 * SQL would.
 */
export function parseTableName(text: string): TableName | undefined {
  const [, schema, table] = NAME.exec(text) ?? [];
  if (table === undefined) return undefined;
  const name = { schema: unquoted(schema ?? DEFAULT_SCHEMA), table: unquoted(table) };
  if (!fits(name.schema) || !fits(name.table)) return undefined;
  const folded = { schema: foldedName(schema ?? DEFAULT_SCHEMA), table: foldedName(table) };
  const isSame = folded.schema === name.schema && folded.table === name.table;
  return isSame ? name : { ...name, folded };
}

function foldedName(part: string): string {
  return part.startsWith('"') ? unquoted(part) : part.toLowerCase();
}

function unquoted(part: string): string {
  return part.startsWith('"') ? part.slice(1, -1).replaceAll('""', '"') : part;
}

function fits(name: string): boolean {
  return Buffer.byteLength(name) <= NAME_BYTES_MAX;
}

/** A name as SQL wants it in a statement, whatever it holds. */
export function quotedName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** A text as a literal that means the same whatever `standard_conforming_strings` says. */
export function quotedText(text: string): string {
  const quoted = `'${text.replaceAll("'", "''")}'`;
  return text.includes('\\') ? `E${quoted.replaceAll('\\', '\\\\')}` : quoted;
}
