/**
 * The pieces of SQL that every statement on a user's table is put together from.
 *
 * Column and table names come from configuration: they are checked against the catalog (`catalog.ts`) and always go
 * through `sql.identifier`, which quotes them.
 */
import { type SQL, sql } from 'drizzle-orm';
import { modelIdentity, ONLY_TENANT } from '../core/target.ts';
import { gapOnlySql, gapSql, textSql } from '../core/target-predicate.ts';
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

/** Only for a target that has a stamp. */
export function stampOf(target: CheckedTarget): SQL {
  if (target.stamp === undefined) throw new Error(`target "${target.name}" has no stamp`);
  return sql`t.${sql.identifier(target.stamp)}`;
}

/** `value` as the type of the id column, so that it is compared as that type and can use its index. */
export function asId(target: CheckedTarget, value: SQL | string | null): SQL {
  return sql`${value}::${sql.raw(target.idType)}`;
}

/** The text that is embedded: the text columns, those that are not blank, joined by a blank line. */
export function textOf(target: CheckedTarget): SQL {
  return sql.raw(textSql(target, 't.'));
}

/** SHA-256 of the text, hex: tells at write time whether the text changed after it was read. */
export function textHashOf(target: CheckedTarget): SQL {
  return sql`encode(sha256(convert_to(${textOf(target)}, 'UTF8')), 'hex')`;
}

export function belongsTo(target: CheckedTarget, tenantId: SQL | string): SQL {
  if (target.tenant === null || target.tenantCast === null) return sql`true`;
  return sql`t.${sql.identifier(target.tenant)} = ${tenantId}::${sql.raw(target.tenantCast)}`;
}

/** The tenant's id in the one spelling that Infill has for it; null for a row of no tenant. */
export function tenantTextOf(target: CheckedTarget): SQL {
  return target.tenant === null
    ? sql`${ONLY_TENANT}::text`
    : asTenantText(target, sql`t.${sql.identifier(target.tenant)}`);
}

/** A value of the tenants' type as text. The spellings of a tenant that the column takes for one are one here, too. */
export function asTenantText({ tenantType }: CheckedTarget, value: SQL): SQL {
  return tenantType === 'citext' ? sql`lower(${value}::text)` : sql`${value}::text`;
}

/** Whether the target's `where` holds. */
export function isInScope({ where }: CheckedTarget): SQL {
  return where === undefined ? sql`true` : sql.raw(`(${where})`);
}

/**
 * In the target's scope, and without an embedding of its present text and the target's model; whatever the reason, blank texts
 * included. The one predicate that the index of missing rows is made on.
 */
export function isGap(target: CheckedTarget): SQL {
  return sql.raw(gapSql(target, 't.'));
}

/** Whether the embedding is of the row's present text and the target's model, as far as anything tells. */
export function isCurrent(target: CheckedTarget): SQL {
  return sql.raw(`NOT coalesce(${gapOnlySql(target, 't.')}, true)`);
}

/** Text, but no embedding of it; whatever the reason. */
export function isMissing(target: CheckedTarget): SQL {
  return sql`${isGap(target)} AND ${textOf(target)} ~ '[^[:space:]]'`;
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
