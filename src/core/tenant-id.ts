import { ONLY_TENANT } from './target.ts';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const WHOLE = /^-?\d{1,19}$/;
/** Bits of Postgres' whole numbers, the sign's included. */
const BITS: Readonly<Record<string, number>> = { smallint: 16, integer: 32, bigint: 64 };

/**
 * A tenant's id as Postgres writes it in a column of `type`, or undefined when such a column cannot hold it.
 *
 * @param type as `format_type` prints it; null for a table without tenants, whose one tenant is `default`.
 */
export function tenantIdAs(type: string | null, given: string): string | undefined {
  if (type === null) return given === ONLY_TENANT ? given : undefined;
  if (type === 'uuid') return UUID.test(given) ? given.toLowerCase() : undefined;
  // Written in any case it is the same tenant to such a column.
  if (type === 'citext') return given.toLowerCase();
  // Blanks at its end mean nothing to such a column.
  if (type === 'character') return withoutBlanksAtEnd(given);
  const bits = BITS[type];
  if (bits === undefined) return given;
  if (!WHOLE.test(given)) return undefined;
  const number = BigInt(given);
  return BigInt.asIntN(bits, number) === number ? String(number) : undefined;
}

function withoutBlanksAtEnd(text: string): string {
  let end = text.length;
  while (text[end - 1] === ' ') end--;
  return text.slice(0, end);
}

export type TenantTypes = {
  /** Of the targets that can be read, as `tenantIdAs` takes them. */
  readonly types: readonly (string | null)[];
  /** Whether these are all targets. The table of another may be yet to come, and hold any id. */
  readonly isComplete: boolean;
};

/**
 * A tenant's id as Postgres writes it in the tenants' columns of all targets, or undefined when it has to be written
 * otherwise. What is stored for a tenant, a key or a switch, is found under that spelling alone: under another one the
 * tenant's texts would go out with the platform's key.
 *
 * - An id that no target can hold is undefined. While a target cannot be read it is taken as given, a UUID in lower case.
 * - Beside a text column a number stays as given: `007` and `7` are two texts.
 * - Beside a text column a UUID has to be given as a uuid column writes it, and is undefined otherwise: kept it would miss
 *   the uuid column, rewritten perhaps the text column, and nobody would be told. So a text column that writes its UUIDs
 *   in capitals can have no keys beside a uuid column.
 */
export function tenantIdAmong({ types, isComplete }: TenantTypes, given: string): string | undefined {
  const spellings = new Set(types.map((type) => tenantIdAs(type, given)).filter((id) => id !== undefined));
  const asUuid = tenantIdAs('uuid', given);
  const [only] = spellings;
  if (only === undefined) return isComplete ? undefined : (asUuid ?? given);
  if (spellings.size === 1) return only;
  return asUuid === undefined ? given : undefined;
}
