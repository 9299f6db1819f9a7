/**
 * What decides whether a row of a target is missing, as SQL. The statements and the printed index are made of the same words, since
 * the planner takes a partial index only where it finds its predicate again.
 */
import { isIndexable } from './sql-condition.ts';
import { quotedName, quotedText } from './table-name.ts';
import { modelIdentity, type Target } from './target.ts';

/** A target, and whether rows that have an embedding and no stamp are work, too. */
export type PredicateTarget = Target & { readonly includesUnverified?: boolean | undefined };

/**
 * The text that is embedded: the text columns, those that are not blank, joined by a blank line.
 *
 * Immutable, which `concat_ws` is not: it stands in an index.
 *
 * @param alias of the table, with its dot; empty for none.
 */
export function textSql({ text }: Pick<Target, 'text'>, alias: string): string {
  const columns = text.map((name) => `${alias}${quotedName(name)}::text`);
  const [only] = columns;
  if (columns.length === 1 && only !== undefined) return only;
  const parts = columns.map(
    (column) => `CASE WHEN ${column} ~ '[^[:space:]]' THEN E'\\n\\n' || ${column} ELSE '' END`,
  );
  return `substr(${parts.join(' || ')}, 3)`;
}

/** What the stamp of a row has to be: MD5 of the model's identity and the text. */
export function stampSql(target: Target, alias: string): string {
  return `md5(${quotedText(modelIdentity(target))} || coalesce(${textSql(target, alias)}, ''))`;
}

/**
 * Whether a row's embedding is not there, or is of another text or model; of blank texts, too. Rows for which the target's `where`
 * does not hold have no gap.
 */
export function gapSql(target: PredicateTarget, alias: string): string {
  const isScoped = target.where === undefined ? '' : ` AND (${target.where})`;
  return `${gapOnlySql(target, alias)}${isScoped}`;
}

/** The predicate of the partial index that finds gaps. A condition that no index can hold is left out. */
export function indexPredicateSql(target: Target): string {
  return target.where !== undefined && isIndexable(target.where)
    ? gapSql(target, '')
    : gapOnlySql(target, '');
}

/** As `gapSql`, for rows outside of the target's `where`, too. NULL for a row that has an embedding and no stamp. */
export function gapOnlySql(target: PredicateTarget, alias: string): string {
  const isNull = `${alias}${quotedName(target.embedding)} IS NULL`;
  if (target.stamp === undefined) return isNull;
  const stamp = `${alias}${quotedName(target.stamp)}`;
  const isUnverified = target.includesUnverified ? ` OR ${stamp} IS NULL` : '';
  return `(${isNull} OR ${stamp} <> ${stampSql(target, alias)}${isUnverified})`;
}
