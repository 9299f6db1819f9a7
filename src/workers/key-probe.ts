import type { KeyringOptions } from '../credentials/keyring.ts';
import { recheckCredential, type TryKey } from '../credentials/store.ts';
import type { Db } from '../db/client.ts';
import { takeLease } from '../db/leases.ts';
import { listKeysToProbe, recordKeyAsked } from '../db/tenant-credentials.ts';

/** How long a key without money left is not asked again. */
const PROBE_AFTER_MS = 3_600_000;
/** How often the workers look for such keys. */
export const PROBE_EVERY_MS = 60_000;
/** Longer than a look takes: its keys are asked side by side, and an embedder gives up on each after a minute. */
const LEASE_MS = 3 * PROBE_EVERY_MS;
const KEYS_AT_ONCE = 20;
const EXHAUSTED = 'quota_exhausted';

export type ProbeKeysOptions = {
  readonly tryKey: TryKey;
  /** Names the worker. */
  readonly holder: string;
  /** Aborted when the worker stops. Keys that were not answered by then stay due. */
  readonly signal: AbortSignal;
};

/**
 * Tries keys whose account had no money left an hour ago, with one word each; one worker at a time.
 *
 * Whatever becomes of a key, it is not asked again for an hour: one that does not open, or whose provider is down, keeps no
 * other from its turn.
 *
 * @throws what the first key failed with that nobody planned for, when all have been asked.
 */
export async function probeKeys(
  db: Db,
  keys: KeyringOptions,
  { tryKey, holder, signal }: ProbeKeysOptions,
): Promise<void> {
  if (!(await takeLease(db, { name: 'key-probe', holder, ttlMs: LEASE_MS }))) return;
  const tenantIds = await listKeysToProbe(db, {
    status: EXHAUSTED,
    idleMs: PROBE_AFTER_MS,
    limit: KEYS_AT_ONCE,
  });
  const probe = async (tenantId: string) => {
    try {
      await recheckCredential(db, keys, { tenantId, tryKey });
    } finally {
      if (!signal.aborted) await recordKeyAsked(db, { tenantId, status: EXHAUSTED });
    }
  };
  const ends = await Promise.allSettled(tenantIds.map(probe));
  const failed = ends.find((end) => end.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}
