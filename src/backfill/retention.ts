/** Forgets what has had its time, a little at a time. */
import { releaseLease, takeLease } from '../db/leases.ts';
import {
  deleteOldAudit,
  deleteOldBatches,
  deleteOldRequests,
  deleteOldRuns,
  deleteOldSamples,
  thinSamples,
} from '../db/retention.ts';
import type { PlanDeps } from './deps.ts';

const LEASE_MS = 60_000;
/** Rows deleted by one statement: it takes a moment, and no lock that anybody waits for. */
const ROWS_AT_ONCE = 1_000;
/** Statements of one kind in a turn. What is left then has time until the next. */
const STATEMENTS_MAX = 50;
export const RETENTION_EVERY_MS = 600_000;

export type Retention = {
  /** Days that settled runs, the audit and requests in SQL are kept. */
  readonly days: number;
};

/**
 * Deletes settled runs, audit events and requests older than `days`, and what ages faster: the row ids of batches after a week, those
 * of the watch after a day, and samples, which are thinned out and gone after 90 days. The ledger of what was spent stays.
 *
 * One process at a time; does a bounded piece of work, and the rest in its next turn. Returns how many rows each kind lost.
 */
export async function forgetOld(
  { db, log }: Pick<PlanDeps, 'db' | 'log'>,
  { days }: Retention,
  holder: string,
  rowsAtOnce = ROWS_AT_ONCE,
): Promise<Record<string, number>> {
  const lease = { name: 'retention', holder };
  if (!(await takeLease(db, { ...lease, ttlMs: LEASE_MS }))) return {};
  try {
    const kinds = {
      batches: () => deleteOldBatches(db, days, rowsAtOnce),
      runs: () => deleteOldRuns(db, days, rowsAtOnce),
      audit: () => deleteOldAudit(db, days, rowsAtOnce),
      requests: () => deleteOldRequests(db, days, rowsAtOnce),
      samples: () => deleteOldSamples(db, rowsAtOnce),
      thinned: () => thinSamples(db, rowsAtOnce),
    };
    const deleted: Record<string, number> = {};
    for (const [kind, remove] of Object.entries(kinds)) {
      // Extended for each kind: together they may take longer than one lease.
      if (!(await takeLease(db, { ...lease, ttlMs: LEASE_MS }))) break;
      deleted[kind] = 0;
      for (let statement = 0; statement < STATEMENTS_MAX; statement++) {
        const rows = await remove();
        deleted[kind] += rows;
        if (rows === 0) break;
      }
    }
    if (Object.values(deleted).some((rows) => rows > 0)) log.info({ ...deleted }, 'old_records_deleted');
    return deleted;
  } finally {
    await releaseLease(db, lease);
  }
}
