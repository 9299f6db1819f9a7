import type { Redis } from 'ioredis';
import { windowOf } from '../core/window.ts';
import type { Keyring } from '../credentials/keyring.ts';
import { readActiveTenants } from '../db/active-tenants.ts';
import type { Db } from '../db/client.ts';
import { countSlots } from '../pacing/worker-slots.ts';

/** How long the figures of all workers and tenants are used without looking again. */
const LOOK_EVERY_MS = 1_000;

/** Makes the function that says how many batches a tenant may have on Redis: its fair share of all workers' slots. */
export function createWindow(
  {
    db,
    redis,
    keyPrefix,
    keyring,
    windowStart,
  }: { db: Db; redis: Redis; keyPrefix: string; keyring: Keyring; windowStart: number },
  now: () => number = Date.now,
): (tenantId: string, weight?: number) => Promise<number> {
  let looked:
    | { atMs: number; figures: Promise<{ slots: number; tenants: number; totalWeight: number }> }
    | undefined;

  const look = async () => {
    const [slots, active] = await Promise.all([countSlots(redis, keyPrefix), readActiveTenants(db)]);
    return { slots, ...active };
  };

  return async (tenantId, known) => {
    if (looked === undefined || now() - looked.atMs > LOOK_EVERY_MS)
      looked = { atMs: now(), figures: look() };
    const current = looked;
    const { slots, tenants, totalWeight } = await current.figures.catch((error: unknown) => {
      if (looked === current) looked = undefined;
      throw error;
    });
    // A tenant without a usable key finds that out in its first batch; its weight does not matter until then.
    const weight =
      known ??
      (await keyring.resolve(tenantId).then(
        (credential) => credential.weight,
        () => 1,
      ));
    return windowOf({ workerSlots: slots, activeTenants: tenants, totalWeight, weight, windowStart });
  };
}
