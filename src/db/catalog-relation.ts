/** What a target's table is: a table, a view, or neither. */
import { sql } from 'drizzle-orm';
import type { Target } from '../core/target.ts';
import type { Db } from './client.ts';

export type Relation = {
  readonly oid: number;
  readonly schema: string;
  readonly table: string;
  /** As `pg_class.relkind` has it. */
  readonly kind: string;
  /** Whether an UPDATE of it comes about: by itself, or by a trigger in its place. */
  readonly isUpdatable: boolean;
};

/** Undefined when there is nothing of the name. A name without quotes is taken as written, or else in lower case, as SQL does. */
export async function readRelation(db: Db, target: Target): Promise<Relation | undefined> {
  const { schema, table, folded } = target;
  const rows = await db.execute<Relation>(sql`
    SELECT c.oid::int8::float8 AS "oid", n.nspname AS "schema", c.relname AS "table", c.relkind AS "kind",
           pg_relation_is_updatable(c.oid, true) & ${UPDATABLE}::int <> 0 AS "isUpdatable"
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE (n.nspname = ${schema} AND c.relname = ${table}) OR (n.nspname = ${folded?.schema ?? schema} AND c.relname = ${folded?.table ?? table})
     ORDER BY n.nspname = ${schema} AND c.relname = ${table} DESC LIMIT 1`);
  return rows[0];
}

/** The bit of UPDATE. Source: PostgreSQL's `pg_relation_is_updatable`, 1 << CMD_UPDATE. */
const UPDATABLE = 4;

const TABLE = 'r';
const PARTITIONED = 'p';
const VIEW = 'v';
const FOREIGN = 'f';

export function isView({ kind }: Relation): boolean {
  return kind === VIEW;
}

/** Whether writes go to another table, of which nothing is known here. */
export function isIndirect({ kind }: Relation): boolean {
  return kind === VIEW || kind === FOREIGN;
}

export function isPartitioned({ kind }: Relation): boolean {
  return kind === PARTITIONED;
}

/** Why a relation cannot be filled, in words that follow its name; undefined when it can. */
export function relationMistake({ kind, isUpdatable }: Relation): string | undefined {
  if (kind === TABLE || kind === PARTITIONED) return undefined;
  if (kind === VIEW)
    return isUpdatable
      ? undefined
      : 'is a view that Postgres cannot update: name the table behind it, or give it an INSTEAD OF UPDATE trigger';
  if (kind === FOREIGN)
    return isUpdatable ? undefined : 'is a foreign table that its server does not let update';
  if (kind === 'm') return 'is a materialized view, which cannot be written to: name the table behind it';
  return `is no table: its kind in pg_class is "${kind}"`;
}

/**
 * What an UPDATE of the relation, or of a partition of it, meets: triggers, and policies of row level security where they bind this
 * role. In words that name them.
 */
export async function readWriteHooks(db: Db, { oid }: Relation): Promise<string[]> {
  // An update, by whatever trigger. Source: pg_trigger.h, TRIGGER_TYPE_UPDATE.
  const rows = await db.execute<{ hook: string }>(sql`
    SELECT DISTINCT format('trigger %I', g.tgname) AS "hook" FROM pg_trigger g
     WHERE NOT g.tgisinternal AND g.tgenabled IN ('O', 'A') AND g.tgtype & 16 = 16
       AND (g.tgrelid = ${oid}::int8::oid OR g.tgrelid IN (SELECT p.relid::oid FROM pg_partition_tree(${oid}::int8::oid::regclass) p))
     UNION ALL
    SELECT format('policy %I', p.polname) FROM pg_policy p
     WHERE p.polrelid = ${oid}::int8::oid AND p.polcmd IN ('w', '*') AND row_security_active(${oid}::int8::oid)
     ORDER BY 1`);
  return rows.map(({ hook }) => hook);
}
