/**
 * The pieces of SQL that every statement on a user's table is put together from.
 *
 * Column and table names come from configuration: they are checked against the catalog (`catalog.ts`) and always go
 * through `sql.identifier`, which quotes them.
 */
import { type SQL, sql } from 'drizzle-orm';
import { modelIdentity } from '../core/target.ts';
import type { CheckedTarget } from './catalog.ts';

/** The target's table under the alias `t`. */
export function tableOf(target: CheckedTarget): SQL {
  return sql`${sql.identifier(target.schema)}.${sql.identifier(target.table)} AS t`;
}

export function idOf(target: CheckedTarget): SQL {
  return sql`t.${sql.identifier(target.id)}`;
}

export function embeddingOf(target: CheckedTarget): SQL {
  return sql`t.${sql.identifier(target.embedding)}`;
}

/** `value` as the type of the id column, so that it is compared as that type and can use its index. */
export function asId(target: CheckedTarget, value: SQL | string | null): SQL {
  return sql`${value}::${sql.raw(target.idType)}`;
}

/** The text that is embedded: the text columns, those that are not blank, joined by a blank line. */
export function textOf(target: CheckedTarget): SQL {
  const columns = target.text.map((name) => sql`t.${sql.identifier(name)}::text`);
  const [only] = columns;
  if (columns.length === 1 && only !== undefined) return only;
  const parts = columns.map((column) => sql`CASE WHEN ${column} ~ '[^[:space:]]' THEN ${column} END`);
  return sql`concat_ws(E'\\n\\n', ${sql.join(parts, sql`, `)})`;
}

/** SHA-256 of the text, hex: tells at write time whether the text changed after it was read. */
export function textHashOf(target: CheckedTarget): SQL {
  return sql`encode(sha256(convert_to(${textOf(target)}, 'UTF8')), 'hex')`;
}

export function belongsTo(target: CheckedTarget, tenantId: SQL | string): SQL {
  if (target.tenant === null || target.tenantType === null) return sql`true`;
  return sql`t.${sql.identifier(target.tenant)} = ${tenantId}::${sql.raw(target.tenantType)}`;
}

/** Text, but no embedding; whatever the reason. */
export function isMissing(target: CheckedTarget): SQL {
  return sql`${embeddingOf(target)} IS NULL AND ${textOf(target)} ~ '[^[:space:]]'`;
}

/** Refused before with this very text and model, all that its identity names. Another text or model is tried again by itself. */
export function isQuarantined(target: CheckedTarget): SQL {
  return sql`EXISTS (
    SELECT 1 FROM infill.quarantined_rows q
     WHERE q.target = ${target.name} AND q.row_id = ${idOf(target)}::text
       AND ${isOfModel(target)} AND q.text_hash = ${textHashOf(target)})`;
}

/**
 * Whether a quarantined row `q` was refused by the target's present model. Rows of earlier versions hold the model's name alone:
 * they still count while the target has nothing else that its vectors depend on.
 */
export function isOfModel(target: CheckedTarget): SQL {
  const isPlain = !target.prefix && Object.keys(target.request ?? {}).length === 0;
  const identity = sql`q.model = ${modelIdentity(target)}`;
  return isPlain ? sql`(${identity} OR q.model = ${target.model})` : identity;
}

/** The rows that a run can work on. */
export function isWork(target: CheckedTarget): SQL {
  return sql`${isMissing(target)} AND NOT ${isQuarantined(target)}`;
}

/** No row at all, for `= ANY(...)`. */
export const noIds: SQL = sql`'{}'::text[]`;
