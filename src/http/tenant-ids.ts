/** Brings the tenants that people name to the spelling that Postgres writes them in: `src/core/tenant-id.ts` says why. */
import type { PlanDeps } from '../backfill/deps.ts';
import type { Target } from '../core/target.ts';
import { type TenantTypes, tenantIdAmong, tenantIdAs } from '../core/tenant-id.ts';
import type { CheckedTarget } from '../db/catalog.ts';
import { Problem } from './problems.ts';

export type TenantIdDeps = Pick<PlanDeps, 'inspect'> & { readonly targets: ReadonlyMap<string, Target> };

/**
 * The spelling under which something is stored for a tenant.
 *
 * @throws {Problem} that names `field`, when no target can hold the tenant, or the targets write it in different ways.
 */
export async function storedTenantId(deps: TenantIdDeps, given: string, field: string): Promise<string> {
  const known = await readTenantTypes(deps);
  const id = tenantIdAmong(known, given);
  if (id !== undefined) return id;
  const message = mistakeOf(known.types, given);
  throw new Problem('invalid_request', `${field} ${message}`, { errors: [{ field, message }] });
}

/** The spellings under which something may have been stored for a tenant; the one that counts comes first. */
export async function tenantSpellings(deps: TenantIdDeps, given: string): Promise<string[]> {
  const id = tenantIdAmong(await readTenantTypes(deps), given);
  return [...new Set([id ?? given, given])];
}

/** Tenants as one target's column writes them; as given what it cannot hold. */
export async function tenantIdsIn(
  { inspect }: TenantIdDeps,
  target: string,
  given: readonly string[],
): Promise<string[]> {
  const state = await inspect(target);
  if (state?.kind !== 'ready') return [...given];
  const { tenantType } = state.target;
  return [...new Set(given.map((id) => tenantIdAs(tenantType, id) ?? id))];
}

/** @throws {Problem} when the target's tenant column cannot hold one of them. */
export function tenantIdsOf(
  { tenantType }: Pick<CheckedTarget, 'tenantType'>,
  given: readonly string[],
): string[] {
  const ids = given.map((id) => {
    const known = tenantIdAs(tenantType, id);
    if (known !== undefined) return known;
    const message =
      tenantType === null
        ? 'must be "default": the target has no tenants'
        : `must be a ${tenantType}, as the target's tenants are`;
    throw new Problem('invalid_request', `tenantId ${message}`, { errors: [{ field: 'tenantId', message }] });
  });
  return [...new Set(ids)].sort();
}

async function readTenantTypes({ inspect, targets }: TenantIdDeps): Promise<TenantTypes> {
  // A catalog that cannot be read now is as an absent table: if Postgres is away, the statement that follows says so.
  const read = [...targets.keys()].map((name) => inspect(name).catch(() => undefined));
  const states = await Promise.all(read);
  const types = states.flatMap((state) => (state?.kind === 'ready' ? [state.target.tenantType] : []));
  return { types, isComplete: types.length === states.length };
}

function mistakeOf(types: TenantTypes['types'], given: string): string {
  const kinds = [...new Set(types.filter((type) => type !== null))];
  if (kinds.length === 0) return 'must be "default": the targets have no tenants';
  if (types.some((type) => tenantIdAs(type, given) !== undefined))
    return 'must be written in lower case, as the targets whose tenants are uuid write it';
  return `must be a ${kinds.join(' or ')}, as the targets' tenants are`;
}
