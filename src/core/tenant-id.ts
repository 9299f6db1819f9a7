import { ONLY_TENANT } from './target.ts';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const WHOLE = /^-?\d{1,19}$/;
/** Bits of Postgres' whole numbers, the sign's included. */
const BITS: Readonly<Record<string, number>> = { integer: 32, bigint: 64 };

/**
 * A tenant's id as Postgres writes it in a column of `type`, or undefined when such a column cannot hold it.
 *
 * @param type as `format_type` prints it; null for a table without tenants, whose one tenant is `default`.
 */
export function tenantIdAs(type: string | null, given: string): string | undefined {
  if (type === null) return given === ONLY_TENANT ? given : undefined;
  if (type === 'uuid') return UUID.test(given) ? given.toLowerCase() : undefined;
  const bits = BITS[type];
  if (bits === undefined) return given;
  if (!WHOLE.test(given)) return undefined;
  const number = BigInt(given);
  return BigInt.asIntN(bits, number) === number ? String(number) : undefined;
}
