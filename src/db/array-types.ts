/**
 * How arrays travel between Node and Postgres.
 *
 * By default postgres.js asks each new connection for all array types, and nobody listens for the failure of that query: a
 * connection that breaks just then ends the process by an unhandled rejection. So the types in use are named here, and the
 * question is switched off (`fetch_types`). That saves a round trip a connection, too.
 */

type Item = string | number | null;

/** Object ids from PostgreSQL's `pg_type.dat`, where they are fixed. */
const TEXT_ARRAY = 1009;
const BIGINT_ARRAY = 1016;

/** For the option `types` of postgres.js. Arrays come back as arrays of strings. */
export const ARRAY_TYPES = {
  textArray: { to: TEXT_ARRAY, from: [TEXT_ARRAY], serialize: arrayText, parse: parseArrayText },
  bigintArray: { to: BIGINT_ARRAY, from: [BIGINT_ARRAY], serialize: arrayText, parse: parseArrayText },
};

/** Writes an array as Postgres reads it. A string is taken to be that already: Drizzle writes the columns' own arrays. */
export function arrayText(value: readonly Item[] | string): string {
  if (typeof value === 'string') return value;
  const items = value.map((item) => {
    if (item === null) return 'NULL';
    return `"${String(item).replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
  });
  return `{${items.join(',')}}`;
}

/** Reads what Postgres writes for an array of one dimension. */
export function parseArrayText(text: string): (string | null)[] {
  const items = text.slice(1, -1).matchAll(/"((?:[^"\\]|\\.)*)"|([^,]+)/gs);
  return Array.from(items, ([, quoted, plain]) => {
    if (quoted !== undefined) return quoted.replaceAll(/\\(.)/gs, '$1');
    return plain === 'NULL' ? null : (plain ?? null);
  });
}
