/** What is known of a tenant's part, or of a run, when all its batches have ended. */
export type EndFacts = {
  readonly dryRun: boolean;
  /** Rows without an embedding that another run could fill, by a recount just now. */
  readonly missing: number;
  /** Rows without an embedding that are quarantined, by the same count. */
  readonly quarantined: number;
  /** Rows given up in this generation. */
  readonly failed: number;
  /** Rows that this very run quarantined, or would have. */
  readonly quarantinedNow: number;
  /** Rows that a dry run has not been through: to it, none that it has is missing any less. */
  readonly unseen: number;
  /** Rows that the run's limit left out. */
  readonly overLimit: boolean;
  /** Codes of the failures behind the rows that were given up, most frequent first. */
  readonly failureCodes: readonly string[];
  /** Set when a cap on cost or tokens stopped the run. */
  readonly cap: string | null;
};

/**
 * Says how a tenant's part of a run ended, and why rows are left.
 *
 * Succeeded means that the recount found nothing missing; anything less names its reason. A dry run leaves its rows missing:
 * it succeeded when each of them would have been written.
 */
export function settlementOf(facts: EndFacts): { status: 'succeeded' | 'incomplete'; reason: string | null } {
  const reasons: string[] = [];
  if (facts.failed > 0)
    reasons.push(`${rows(facts.failed)} failed (${facts.failureCodes.join(', ') || 'unknown'})`);
  // A dry run sets nothing aside: what it found comes to what was set aside before.
  const quarantined = facts.quarantined + (facts.dryRun ? facts.quarantinedNow : 0);
  if (quarantined > 0) reasons.push(`${rows(quarantined)} ${isOrAre(quarantined)} quarantined`);
  const other = facts.dryRun ? facts.unseen : facts.missing - facts.failed;
  if (other > 0 && facts.cap !== null) reasons.push(facts.cap);
  else if (other > 0) {
    reasons.push(
      facts.overLimit
        ? `${rows(other)} ${isOrAre(other)} over the run's limit`
        : `${rows(other)} changed or arrived while the run was at work`,
    );
  }
  return reasons.length === 0
    ? { status: 'succeeded', reason: null }
    : { status: 'incomplete', reason: reasons.join('; ') };
}

/** Tenants named in a run's reason; the others are counted. */
export const TENANTS_NAMED_MAX = 5;

/**
 * Sums up why a run is incomplete from its tenants' reasons.
 *
 * @param tenants the first of those that fell short, `TENANTS_NAMED_MAX` at most.
 * @param short how many fell short.
 */
export function runReason(
  tenants: readonly { tenantId: string; reason: string | null }[],
  short: number,
  others: readonly string[],
): string {
  const named = tenants.map(({ tenantId, reason }) => `${tenantId}: ${reason ?? 'left early'}`);
  const more = short - named.length;
  return [...named, ...(more > 0 ? [`and ${more} more tenants`] : []), ...others].join('; ');
}

function rows(count: number): string {
  return count === 1 ? '1 row' : `${count} rows`;
}

function isOrAre(count: number): string {
  return count === 1 ? 'is' : 'are';
}
