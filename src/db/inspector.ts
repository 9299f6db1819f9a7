import type { Target } from '../core/target.ts';
import { inspectTarget, type TargetState } from './catalog.ts';
import type { Db } from './client.ts';

/** How long a target that was found ready is taken to be so. What is not ready is looked at each time: it may be soon. */
const READY_FOR_MS = 10_000;

/** Makes the function that holds a target, by name, against the catalog. Undefined for a name that is not in the file. */
export function createInspector(
  db: Db,
  targets: ReadonlyMap<string, Target>,
  now: () => number = Date.now,
): (name: string) => Promise<TargetState | undefined> {
  const ready = new Map<string, { state: TargetState; atMs: number }>();
  return async (name) => {
    const target = targets.get(name);
    if (target === undefined) return undefined;
    const known = ready.get(name);
    if (known !== undefined && now() - known.atMs < READY_FOR_MS) return known.state;
    const state = await inspectTarget(db, target);
    if (state.kind === 'ready') ready.set(name, { state, atMs: now() });
    else ready.delete(name);
    return state;
  };
}
