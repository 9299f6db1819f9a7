import { sql } from 'drizzle-orm';
import type { Target } from '../core/target.ts';
import type { Db } from './client.ts';

/** A target whose table, columns and types were found in the database as its description says. */
export type CheckedTarget = Target & {
  readonly idType: 'uuid' | 'bigint' | 'integer' | 'text';
  /** Type of the tenant column, as `format_type` prints it; null without one. */
  readonly tenantType: string | null;
  /** Schema that holds the type `vector`: not always on the search path. */
  readonly vectorSchema: string;
  /** Oid of that type, which vectors carry on the wire. */
  readonly vectorOid: number;
  /** Whether the index that finds missing rows quickly is there. */
  readonly hasMissingIndex: boolean;
  /** The statement that creates that index. */
  readonly missingIndexDdl: string;
};

export type TargetState =
  | { readonly kind: 'ready'; readonly target: CheckedTarget }
  | { readonly kind: 'absent'; readonly detail: string }
  | { readonly kind: 'mismatch'; readonly detail: string };

type CatalogColumn = {
  name: string;
  type: string;
  typeName: string;
  typeSchema: string;
  typmod: number;
  typeOid: number;
  mayRead: boolean;
  mayWrite: boolean;
};

const ID_TYPES: Readonly<Record<string, CheckedTarget['idType']>> = {
  uuid: 'uuid',
  bigint: 'bigint',
  integer: 'integer',
  text: 'text',
  'character varying': 'text',
};

const TENANT_TYPES = ['text', 'character varying', 'uuid', 'bigint', 'integer'];

/**
 * Holds a target against the database's catalog.
 *
 * An absent table is a state, not an error. A mismatch names the target and lists all that differs: what is there and
 * what was expected.
 */
export async function inspectTarget(db: Db, target: Target): Promise<TargetState> {
  const columns = await readColumns(db, target);
  const table = `table "${target.schema}"."${target.table}"`;
  if (columns.size === 0) return { kind: 'absent', detail: `Target "${target.name}": ${table} is absent.` };

  const mistakes: string[] = [];
  const idType = checkId(columns, target, mistakes);
  const tenantType = checkTenant(columns, target, mistakes);
  for (const name of target.text) {
    if (!columns.has(name)) mistakes.push(`text column "${name}" does not exist`);
  }
  const vectorType = checkEmbedding(columns, target, mistakes);
  checkRights(columns, target, mistakes);
  if (mistakes.length > 0 || idType === undefined || vectorType === undefined) {
    return { kind: 'mismatch', detail: `Target "${target.name}", ${table}: ${mistakes.join('; ')}.` };
  }

  const hasMissingIndex = await findMissingIndex(db, target);
  return {
    kind: 'ready',
    target: {
      ...target,
      idType,
      tenantType,
      vectorSchema: vectorType.typeSchema,
      vectorOid: vectorType.typeOid,
      hasMissingIndex,
      missingIndexDdl: missingIndexDdl(target),
    },
  };
}

function checkId(columns: ReadonlyMap<string, CatalogColumn>, target: Target, mistakes: string[]) {
  const column = columns.get(target.id);
  const type = column === undefined ? undefined : ID_TYPES[baseType(column.type)];
  if (column === undefined) mistakes.push(`id column "${target.id}" does not exist`);
  else if (type === undefined) {
    mistakes.push(`id column "${target.id}" is ${column.type}, expected uuid, bigint, integer or text`);
  }
  return type;
}

function checkTenant(columns: ReadonlyMap<string, CatalogColumn>, target: Target, mistakes: string[]) {
  if (target.tenant === null) return null;
  const column = columns.get(target.tenant);
  if (column === undefined) mistakes.push(`tenant column "${target.tenant}" does not exist`);
  else if (!TENANT_TYPES.includes(baseType(column.type))) {
    mistakes.push(
      `tenant column "${target.tenant}" is ${column.type}, expected text, uuid, bigint or integer`,
    );
  } else return baseType(column.type);
  return null;
}

function checkEmbedding(columns: ReadonlyMap<string, CatalogColumn>, target: Target, mistakes: string[]) {
  const column = columns.get(target.embedding);
  const expected = `expected vector(${target.dimensions})`;
  if (column === undefined) {
    mistakes.push(`embedding column "${target.embedding}" does not exist, ${expected}`);
  } else if (column.typeName !== 'vector') {
    mistakes.push(`embedding column "${target.embedding}" is ${column.type}, ${expected}`);
  } else if (column.typmod !== -1 && column.typmod !== target.dimensions) {
    mistakes.push(`embedding column "${target.embedding}" is vector(${column.typmod}), ${expected}`);
  } else return column;
  return undefined;
}

/** A right that is missing would be found out by the first write, after its vectors were paid for. */
function checkRights(columns: ReadonlyMap<string, CatalogColumn>, target: Target, mistakes: string[]): void {
  const wanted = [target.id, target.tenant, ...target.text, target.embedding];
  const unread = wanted.filter((name) => name !== null && columns.get(name)?.mayRead === false);
  for (const name of unread) mistakes.push(`this role may not SELECT column "${name}"`);
  if (columns.get(target.embedding)?.mayWrite === false)
    mistakes.push(`this role may not UPDATE column "${target.embedding}"`);
}

/** `character varying(40)` and `character varying` are one type to us. */
function baseType(type: string): string {
  return type.replace(/\([^(]*\)$/, '');
}

async function readColumns(db: Db, target: Target): Promise<Map<string, CatalogColumn>> {
  const rows = await db.execute<CatalogColumn>(sql`
    SELECT a.attname AS "name", format_type(a.atttypid, a.atttypmod) AS "type", ty.typname AS "typeName",
           tn.nspname AS "typeSchema", a.atttypmod AS "typmod", ty.oid::int8::float8 AS "typeOid",
           has_column_privilege(c.oid, a.attnum, 'SELECT') AS "mayRead", has_column_privilege(c.oid, a.attnum, 'UPDATE') AS "mayWrite"
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      JOIN pg_type ty ON ty.oid = a.atttypid
      JOIN pg_namespace tn ON tn.oid = ty.typnamespace
     WHERE n.nspname = ${target.schema} AND c.relname = ${target.table} AND c.relkind IN ('r', 'p')`);
  return new Map(rows.map((row) => [row.name, row]));
}

async function findMissingIndex(db: Db, target: Target): Promise<boolean> {
  const keys = target.tenant === null ? [target.id] : [target.tenant, target.id];
  const rows = await db.execute(sql`
    SELECT 1
      FROM pg_index i
      JOIN pg_class c ON c.oid = i.indrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = ${target.schema} AND c.relname = ${target.table} AND i.indisvalid
       AND pg_get_expr(i.indpred, i.indrelid) = format('(%I IS NULL)', ${target.embedding}::text)
       AND ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, place)
                   JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                  ORDER BY k.place)
           = ${sql.param(keys)}::text[]`);
  return rows.length > 0;
}

/** Source: PostgreSQL's documentation, "Identifiers and Key Words": NAMEDATALEN - 1. */
const NAME_BYTES_MAX = 63;

/** The partial index that every read of missing rows wants; built without blocking writes. */
export function missingIndexDdl(target: Target): string {
  const quote = (name: string) => `"${name.replaceAll('"', '""')}"`;
  const keys = [target.tenant, target.id].filter((name) => name !== null).map(quote);
  const name = `${target.table}_missing_${target.embedding}`;
  // Postgres would cut a longer one, perhaps to the table's own name; without one it finds one.
  const named = Buffer.byteLength(name) <= NAME_BYTES_MAX ? `${quote(name)} ` : '';
  return (
    `CREATE INDEX CONCURRENTLY ${named}ON ${quote(target.schema)}.${quote(target.table)} (${keys.join(', ')}) ` +
    `WHERE ${quote(target.embedding)} IS NULL;`
  );
}
