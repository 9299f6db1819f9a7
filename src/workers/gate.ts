import type { CarefulWrites } from '../backfill/careful-writes.ts';
import type { GateAnswer, HeldSwitch } from '../core/health-gate.ts';
import { gate } from '../core/health-gate.ts';
import type { Db } from '../db/client.ts';
import { type DatabaseHealth, readDatabaseHealth } from '../db/database-health.ts';

/** How long one look at the database's load serves all tenants of this worker. */
const LOOK_EVERY_MS = 1_000;

/** Makes the function that says whether a tenant may admit batches now. */
export function createGate(
  { db, writes, replicationLagMaxMs }: { db: Db; writes: CarefulWrites; replicationLagMaxMs: number },
  now: () => number = Date.now,
): (target: string, tenantId: string, switches: readonly HeldSwitch[]) => Promise<GateAnswer> {
  let looked: { atMs: number; health: Promise<DatabaseHealth> } | undefined;

  return async (target, tenantId, switches) => {
    if (looked === undefined || now() - looked.atMs > LOOK_EVERY_MS)
      looked = { atMs: now(), health: readDatabaseHealth(db) };
    const current = looked;
    const health = await current.health.catch((error: unknown) => {
      if (looked === current) looked = undefined;
      throw error;
    });
    const facts = { ...health, switches, replicationLagMaxMs, quietMs: now() - writes.busyAtMs };
    return gate(facts, { target, tenantId });
  };
}
