/** The partial index by which missing rows are found: its statement, and whether it is there. */
import { sql } from 'drizzle-orm';
import { NAME_BYTES_MAX, quotedName } from '../core/table-name.ts';
import type { Target } from '../core/target.ts';
import { gapSql, indexPredicateSql } from '../core/target-predicate.ts';
import { isPartitioned, isView, type Relation } from './catalog-relation.ts';
import type { Db } from './client.ts';

/** The statement that creates the index, without blocking writes where Postgres can do that; null for a view. */
export function missingIndexDdl(target: Target, relation: Relation): string | null {
  if (isView(relation)) return null;
  const keys = keysOf(target).map(quotedName);
  const name = `${target.table}_missing_${target.embedding}`;
  // Postgres would cut a longer one, perhaps to the table's own name; without one it finds one.
  const named = Buffer.byteLength(name) <= NAME_BYTES_MAX ? `${quotedName(name)} ` : '';
  const concurrently = isPartitioned(relation) ? '' : 'CONCURRENTLY ';
  return (
    `CREATE INDEX ${concurrently}${named}ON ${quotedName(target.schema)}.${quotedName(target.table)} (${keys.join(', ')}) ` +
    `WHERE ${indexPredicateSql(target)};`
  );
}

function keysOf({ tenant, id }: Target): string[] {
  return tenant === null ? [id] : [tenant, id];
}

export async function hasMissingIndex(db: Db, target: Target, relation: Relation): Promise<boolean> {
  const isPlain = target.where === undefined && target.stamp === undefined && !isView(relation);
  return isPlain ? findPlainIndex(db, target, relation) : isIndexTaken(db, target);
}

async function findPlainIndex(db: Db, target: Target, { oid }: Relation): Promise<boolean> {
  const rows = await db.execute(sql`
    SELECT 1 FROM pg_index i
     WHERE i.indrelid = ${oid}::int8::oid AND i.indisvalid
       AND pg_get_expr(i.indpred, i.indrelid) = format('(%I IS NULL)', ${target.embedding}::text)
       AND ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, place)
                   JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                  ORDER BY k.place)
           = ${sql.param(keysOf(target))}::text[]`);
  return rows.length > 0;
}

/**
 * Whether the planner finds missing rows, in the order of the keys, by a partial index on the embedding.
 *
 * Asked of the planner, since Postgres spells a predicate in its own way, and only the planner knows whether the one that is
 * there does. It is kept from every other way, so that the size of the table does not matter.
 */
async function isIndexTaken(db: Db, target: Target): Promise<boolean> {
  const keys = sql.raw(
    keysOf(target)
      .map((name) => `t.${quotedName(name)}`)
      .join(', '),
  );
  return db.transaction(
    async (tx) => {
      await tx.execute(
        sql`SELECT set_config(name, 'off', true) FROM unnest(ARRAY['enable_seqscan', 'enable_bitmapscan', 'enable_sort', 'enable_incremental_sort']) AS name`,
      );
      const rows = await tx.execute<Record<string, unknown>>(sql`
        EXPLAIN (FORMAT JSON) SELECT ${keys} FROM ${sql.identifier(target.schema)}.${sql.identifier(target.table)} AS t
         WHERE ${sql.raw(gapSql(target, 't.'))} ORDER BY ${keys} LIMIT 1`);
      const indexes = indexesOf(rows[0]?.['QUERY PLAN']);
      if (indexes === undefined || indexes.length === 0) return false;
      const [found] = await tx.execute<{ partial: number }>(sql`
        SELECT count(DISTINCT c.relname)::int AS "partial" FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
         WHERE c.relname = ANY(${sql.param(indexes)}::text[]) AND i.indisvalid
           AND strpos(pg_get_expr(i.indpred, i.indrelid), quote_ident(${target.embedding}::text)) > 0`);
      return found?.partial === new Set(indexes).size;
    },
    { accessMode: 'read only' },
  );
}

type Plan = { 'Node Type'?: string; 'Index Name'?: string; Plans?: Plan[] };

/** The indexes that a plan reads; undefined when it reads a table without one, or sorts. */
function indexesOf(explained: unknown): string[] | undefined {
  const parsed = (typeof explained === 'string' ? JSON.parse(explained) : explained) as { Plan: Plan }[];
  const names: string[] = [];
  const open: (Plan | undefined)[] = [parsed[0]?.Plan];
  for (let plan = open.pop(); plan !== undefined; plan = open.pop()) {
    if (/Seq Scan|Sort$/.test(plan['Node Type'] ?? '')) return undefined;
    const name = plan['Index Name'];
    if (name !== undefined) names.push(name);
    open.push(...(plan.Plans ?? []));
  }
  return names;
}
