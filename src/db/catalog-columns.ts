/** Holds the columns of a target against those that its table has. */
import { sql } from 'drizzle-orm';
import { quotedName } from '../core/table-name.ts';
import type { Target } from '../core/target.ts';
import type { VectorType } from '../core/vector-wire.ts';
import type { CheckedTarget } from './catalog.ts';
import type { Relation } from './catalog-relation.ts';
import type { Db } from './client.ts';

export type CatalogColumn = {
  readonly name: string;
  /** As `format_type` prints it. */
  readonly type: string;
  /** The type below all domains, as `format_type` prints it without a length, and its name, schema, oid and modifier. */
  readonly baseType: string;
  readonly baseName: string;
  readonly baseSchema: string;
  readonly baseOid: number;
  readonly typmod: number;
  readonly isNullable: boolean;
  readonly isGenerated: boolean;
  readonly mayRead: boolean;
  readonly mayWrite: boolean;
};

type Columns = ReadonlyMap<string, CatalogColumn>;
export type ColumnTypes = Pick<
  CheckedTarget,
  'idType' | 'tenantType' | 'tenantCast' | 'vectorType' | 'vectorSchema' | 'vectorOid'
>;

export async function readColumns(db: Db, { oid }: Relation): Promise<Columns> {
  const rows = await db.execute<CatalogColumn>(sql`
    SELECT a.attname AS "name", format_type(a.atttypid, a.atttypmod) AS "type", format_type(base.oid, NULL) AS "baseType",
           ty.typname AS "baseName", tn.nspname AS "baseSchema", base.oid::int8::float8 AS "baseOid", base.typmod AS "typmod",
           NOT a.attnotnull AS "isNullable", a.attgenerated <> '' AS "isGenerated",
           has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS "mayRead", has_column_privilege(a.attrelid, a.attnum, 'UPDATE') AS "mayWrite"
      FROM pg_attribute a
     CROSS JOIN LATERAL (
       WITH RECURSIVE domains AS (
         SELECT a.atttypid AS oid, a.atttypmod AS typmod, 0 AS depth
          UNION ALL
         SELECT d.typbasetype, CASE WHEN d.typtypmod = -1 THEN domains.typmod ELSE d.typtypmod END, domains.depth + 1
           FROM domains JOIN pg_type d ON d.oid = domains.oid WHERE d.typtype = 'd')
       SELECT domains.oid, domains.typmod FROM domains ORDER BY depth DESC LIMIT 1) base
      JOIN pg_type ty ON ty.oid = base.oid
      JOIN pg_namespace tn ON tn.oid = ty.typnamespace
     WHERE a.attrelid = ${oid}::int8::oid AND a.attnum > 0 AND NOT a.attisdropped`);
  return new Map(rows.map((row) => [row.name, row]));
}

/** Undefined types go with at least one mistake. */
export function checkColumns(
  columns: Columns,
  target: Target,
): { types: ColumnTypes | undefined; mistakes: string[] } {
  const mistakes: string[] = [];
  const idType = checkId(columns, target, mistakes);
  const tenant = checkTenant(columns, target, mistakes);
  for (const name of target.text) {
    if (!columns.has(name)) mistakes.push(`text column "${name}" does not exist`);
  }
  const vector = checkEmbedding(columns, target, mistakes);
  checkStamp(columns, target, mistakes);
  checkRights(columns, target, mistakes);
  if (idType === undefined || vector === undefined) return { types: undefined, mistakes };
  return {
    types: {
      idType,
      ...tenant,
      vectorType: vector.baseName as VectorType,
      vectorSchema: vector.baseSchema,
      vectorOid: vector.baseOid,
    },
    mistakes,
  };
}

/** How a statement casts to each type that ids and tenants may have. A column of an extension's type needs its schema. */
function castOf({ baseType, baseName, baseSchema }: CatalogColumn): string | undefined {
  if (baseName === 'citext') return `${quotedName(baseSchema)}.citext`;
  return CASTS[baseType];
}

const CASTS: Readonly<Record<string, string>> = {
  uuid: 'uuid',
  bigint: 'bigint',
  integer: 'integer',
  smallint: 'smallint',
  text: 'text',
  'character varying': 'text',
  character: 'bpchar',
};

function checkId(columns: Columns, target: Target, mistakes: string[]): string | undefined {
  const column = columns.get(target.id);
  const cast = column === undefined ? undefined : castOf(column);
  if (column === undefined) mistakes.push(`id column "${target.id}" does not exist`);
  else if (cast === undefined) {
    mistakes.push(`id column "${target.id}" is ${column.type}, expected uuid, bigint, integer or text`);
  }
  return cast;
}

type TenantTypes = Pick<CheckedTarget, 'tenantType' | 'tenantCast'>;
const NO_TENANT: TenantTypes = { tenantType: null, tenantCast: null };

function checkTenant(columns: Columns, target: Target, mistakes: string[]): TenantTypes {
  if (target.tenant === null) return NO_TENANT;
  const column = columns.get(target.tenant);
  const cast = column === undefined ? undefined : castOf(column);
  if (column === undefined) mistakes.push(`tenant column "${target.tenant}" does not exist`);
  else if (cast === undefined) {
    mistakes.push(
      `tenant column "${target.tenant}" is ${column.type}, expected text, uuid, bigint or integer`,
    );
  } else {
    return { tenantType: column.baseName === 'citext' ? 'citext' : column.baseType, tenantCast: cast };
  }
  return NO_TENANT;
}

const VECTOR_TYPES: readonly string[] = ['vector', 'halfvec'] satisfies VectorType[];

function checkEmbedding(columns: Columns, target: Target, mistakes: string[]): CatalogColumn | undefined {
  const column = columns.get(target.embedding);
  const type = column?.baseName === 'halfvec' ? 'halfvec' : 'vector';
  const expected = `expected ${type}(${target.dimensions})`;
  if (column === undefined) {
    mistakes.push(`embedding column "${target.embedding}" does not exist, ${expected}`);
  } else if (!VECTOR_TYPES.includes(column.baseName)) {
    mistakes.push(`embedding column "${target.embedding}" is ${column.type}, ${expected}`);
  } else if (column.typmod !== -1 && column.typmod !== target.dimensions) {
    mistakes.push(`embedding column "${target.embedding}" is ${type}(${column.typmod}), ${expected}`);
  } else if (column.isGenerated) {
    mistakes.push(`embedding column "${target.embedding}" is generated by Postgres and cannot be written to`);
  } else return column;
  return undefined;
}

const STAMP_TYPES = ['text', 'character varying'];

function checkStamp(columns: Columns, { stamp, schema, table }: Target, mistakes: string[]): void {
  if (stamp === undefined) return;
  const column = columns.get(stamp);
  if (column === undefined)
    mistakes.push(`stamp column "${stamp}" does not exist: ${stampDdl({ schema, table, stamp })}`);
  else if (!STAMP_TYPES.includes(column.baseType))
    mistakes.push(`stamp column "${stamp}" is ${column.type}, expected text`);
  else if (!column.isNullable)
    mistakes.push(
      `stamp column "${stamp}" is NOT NULL, expected one that may be NULL: rows without a stamp are told apart by that`,
    );
  else if (column.isGenerated)
    mistakes.push(`stamp column "${stamp}" is generated by Postgres and cannot be written to`);
}

/** The statement that adds a target's stamp column; takes no time, whatever the size of the table. */
export function stampDdl({ schema, table, stamp }: { schema: string; table: string; stamp: string }): string {
  return `ALTER TABLE ${quotedName(schema)}.${quotedName(table)} ADD COLUMN ${quotedName(stamp)} text;`;
}

/** A right that is missing would be found out by the first write, after its vectors were paid for. */
function checkRights(columns: Columns, target: Target, mistakes: string[]): void {
  const written = [target.embedding, ...(target.stamp === undefined ? [] : [target.stamp])];
  const wanted = [target.id, target.tenant, ...target.text, ...written];
  const unread = wanted.filter((name) => name !== null && columns.get(name)?.mayRead === false);
  for (const name of unread) mistakes.push(`this role may not SELECT column "${name}"`);
  for (const name of written) {
    if (columns.get(name)?.mayWrite === false) mistakes.push(`this role may not UPDATE column "${name}"`);
  }
}
