/** A switch that is on. */
export type HeldSwitch = {
  readonly scope: 'global' | 'target' | 'tenant';
  readonly name: string;
  readonly reason: string | null;
};

/** What is known of the database, and of what the operator wants, when a tenant is about to admit. */
export type GateFacts = {
  readonly switches: readonly HeldSwitch[];
  readonly connections: number;
  readonly connectionsMax: number;
  readonly replicationLagMs: number | null;
  readonly replicationLagMaxMs: number;
  /** Milliseconds since a statement of ours ran into a timeout. */
  readonly quietMs: number;
};

export type GateAnswer =
  | { readonly kind: 'open' }
  /** One batch of the tenant at a time. */
  | { readonly kind: 'slow'; readonly reason: string }
  | { readonly kind: 'held'; readonly reason: string };

/** Above this share of the connections a backfill leaves the rest to whoever the database is for. */
const CONNECTIONS_SHARE_MAX = 0.9;
/** How long a run goes gently after its own statements ran into a timeout. */
const GENTLE_MS = 30_000;

/** Whether a tenant may admit batches now. The first reason that holds is the one that is told. */
export function gate(
  facts: GateFacts,
  { target, tenantId }: { target: string; tenantId: string },
): GateAnswer {
  const off = facts.switches.find(
    ({ scope, name }) =>
      scope === 'global' ||
      (scope === 'target' && name === target) ||
      (scope === 'tenant' && name === tenantId),
  );
  if (off !== undefined) {
    const what = off.scope === 'global' ? 'everything' : `${off.scope} ${off.name}`;
    return {
      kind: 'held',
      reason: `an operator switched ${what} off${off.reason === null ? '' : ` (${off.reason})`}`,
    };
  }
  if (facts.replicationLagMs !== null && facts.replicationLagMs > facts.replicationLagMaxMs) {
    return {
      kind: 'held',
      reason: `a replica is ${Math.round(facts.replicationLagMs)} ms behind, allowed are ${facts.replicationLagMaxMs} ms`,
    };
  }
  if (facts.connections >= facts.connectionsMax * CONNECTIONS_SHARE_MAX) {
    return {
      kind: 'held',
      reason: `${facts.connections} of ${facts.connectionsMax} database connections are in use`,
    };
  }
  if (facts.quietMs < GENTLE_MS)
    return { kind: 'slow', reason: 'a statement of the run ran into a timeout a moment ago' };
  return { kind: 'open' };
}
