import { PASSES_MAX } from '../core/run.ts';
import { idsGivenUp } from '../db/run-batches.ts';
import { readRunHead } from '../db/run-head.ts';
import { beginPass, beginTenant, closeWindow, type RunTenantKey, readRunTenant } from '../db/run-tenants.ts';
import { countTenantWork } from '../db/target-rows.ts';
import { admit } from './admit.ts';
import { type PlanDeps, readyTarget, targetForRun } from './deps.ts';
import { finishTenant, type TenantEnd } from './settle.ts';

export type TenantOutcome =
  /** Batches are enqueued: the tenant's job waits for them and is called again when they have ended. */
  | { readonly kind: 'admitted' }
  /** Nothing may be admitted for now: it is called again a little later. */
  | { readonly kind: 'held'; readonly reason: string }
  /** The run stops, or was planned anew: somebody else goes on. */
  | { readonly kind: 'left' }
  | ({ readonly kind: 'settled' } & TenantEnd);

/**
 * Takes a tenant's part of a run one step further: fills its window, begins the next pass, or settles it.
 *
 * Called first when the run is planned, and then whenever all batches that were admitted have ended. Safe to repeat.
 */
export async function planTenant(deps: PlanDeps, key: RunTenantKey): Promise<TenantOutcome> {
  const run = await readRunHead(deps.db, key.runId);
  if (run === undefined || run.generation !== key.generation || run.status !== 'running')
    return { kind: 'left' };
  const target = targetForRun(await readyTarget(deps, run.target), run);

  if (await beginTenant(deps.db, key)) {
    await closeWindow(deps.db, key);
    let admission = await admit(deps, run, key, target);
    if (admission.batches === 0 && admission.held === null && (await beginNextPass())) {
      admission = await admit(deps, run, key, target);
    }
    if (admission.batches > 0) return { kind: 'admitted' };
    if (admission.held !== null) return { kind: 'held', reason: admission.held };
  }
  // Nothing was admitted: because nothing is left, or because the run was stopped a moment ago.
  const now = await readRunHead(deps.db, key.runId);
  if (now?.generation !== key.generation || now.status !== 'running') return { kind: 'left' };
  return { kind: 'settled', ...(await finishTenant(deps, now, key, target)) };

  async function beginNextPass(): Promise<boolean> {
    const part = await readRunTenant(deps.db, key.runId, key.tenantId);
    // A dry run writes nothing, so that its rows are still missing after the first pass: there is no second.
    if (part === undefined || run?.dryRun || part.allowance === 0 || part.pass >= PASSES_MAX) return false;
    const left = await countTenantWork(deps.db, target, key.tenantId, idsGivenUp(key));
    return left > 0 && (await beginPass(deps.db, key, part.pass + 1));
  }
}
