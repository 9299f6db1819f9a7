import type { CheckedTarget } from '../db/catalog.ts';
import { readRunTenant } from '../db/run-tenants.ts';
import { type RunRecord, readRun } from '../db/runs.ts';
import type { RunBatch } from '../queue/jobs.ts';
import type { BatchDeps } from './deps.ts';

export type Attempt = {
  /** From 1. Only failures that may be the work's own fault count. */
  readonly number: number;
  /** Whether the batch gives its rows up if it fails again. */
  readonly isLast: boolean;
};

export type BatchContext = {
  readonly run: RunRecord;
  readonly target: CheckedTarget;
  readonly batch: RunBatch;
  readonly attempt: Attempt;
};

/** The batch's run, if it and the tenant are still at work in the batch's generation. */
export async function currentRun(deps: BatchDeps, batch: RunBatch): Promise<RunRecord | undefined> {
  const run = await readRun(deps.db, batch.runId);
  if (run === undefined || run.generation !== batch.generation || run.status !== 'running') return undefined;
  const part = await readRunTenant(deps.db, batch.runId, batch.tenantId);
  return part?.generation === batch.generation && part.status === 'running' ? run : undefined;
}
