import { strict as assert } from 'node:assert';

export type WindowInput = {
  /** Batches that all live workers can run at once; 0 when nobody knows. */
  readonly workerSlots: number;
  /** Tenants with work, this one included. */
  readonly activeTenants: number;
  /** Sum of the weights of the tenants with work, this one included. Left out: all weigh 1. */
  readonly totalWeight?: number;
  /** Weight of this tenant; left out: 1. */
  readonly weight?: number;
  /** Window while nobody knows how many slots there are. */
  readonly windowStart: number;
  readonly windowMin?: number;
  readonly windowMax?: number;
};

/** Batches kept beyond a tenant's share, so that a slot that comes free finds one without waiting for an admission. */
const RESERVE_SHARE = 0.25;
/** Keeps Redis small, however many slots there are. */
const WINDOW_MAX = 1_024;

/**
 * How many batches a tenant may have on Redis at once: its fair share of all slots, and a reserve.
 *
 * A lone tenant gets every slot; among a hundred each gets its share by weight, and never less than `windowMin` (1). Grows
 * with the slots and the tenant's weight, shrinks as tenants come.
 */
export function windowOf(input: WindowInput): number {
  const {
    workerSlots,
    activeTenants,
    windowStart,
    weight = 1,
    windowMin = 1,
    windowMax = WINDOW_MAX,
  } = input;
  assert(weight > 0, `weight must be above 0, got ${weight}`);
  assert(windowMin >= 1 && windowMin <= windowMax, `windowMin must be in 1..${windowMax}, got ${windowMin}`);

  const others = Math.max(0, activeTenants - 1);
  const totalWeight = Math.max(weight, input.totalWeight ?? weight + others);
  const share = (workerSlots * weight) / totalWeight;
  const wanted = workerSlots > 0 ? Math.ceil(share * (1 + RESERVE_SHARE)) : windowStart;
  return Math.min(windowMax, Math.max(windowMin, wanted));
}
