import { progressPercent } from '../core/progress.ts';
import { isSettled } from '../core/run.ts';
import { runMessage } from '../core/run-message.ts';
import type { Db } from '../db/client.ts';
import { readRunTenant } from '../db/run-tenants.ts';
import { readRun } from '../db/runs.ts';
import type { Queues } from '../queue/enqueue.ts';
import { planRunId, planTenantId } from '../queue/jobs.ts';

export type ProgressReporter = {
  /** Shows how far a run, and a tenant of it, are, on their jobs, twice a second at most. Never throws: it is for the eye only. */
  report(runId: string, tenantId?: string): Promise<void>;
  /** The same when the run or the tenant has settled: the last word on it, so it is never left out for coming too soon. */
  reportSettled(runId: string, tenantId?: string): Promise<void>;
};

/** A run's progress is written at most this often by one worker, so that it costs nothing beside the work. */
const REPORT_EVERY_MS = 500;
const RUNS_MAX = 1_000;

/**
 * Reports progress to Bull Board in the shape that shows both the donut and the figures there:
 * `{progress, done, total, ...}`. A bare number would show a donut that says it has no data.
 */
export function createProgressReporter(
  db: Db,
  queues: Queues,
  now: () => number = Date.now,
): ProgressReporter {
  const reportedAtMs = new Map<string, number>();

  const write = async (runId: string, tenantId: string | undefined, isLast: boolean) => {
    // Before anything is read: adding up a run's tenants for each batch would cost more than the batch.
    const last = reportedAtMs.get(runId) ?? 0;
    if (!isLast && now() - last < REPORT_EVERY_MS) return;
    if (reportedAtMs.size >= RUNS_MAX) reportedAtMs.clear();
    reportedAtMs.set(runId, now());
    const run = await readRun(db, runId);
    if (run === undefined) return;
    const settled = isSettled(run.status);

    const counts = { ...run, planned: run.planned ?? 0 };
    const key = { runId, generation: run.generation };
    const job = await queues.runs.getJob(planRunId(key));
    await job?.updateProgress({ ...figures(counts, settled), status: run.status, message: runMessage(run) });
    if (tenantId === undefined) return;

    const part = await readRunTenant(db, runId, tenantId);
    const tenantJob = await queues.tenants.getJob(planTenantId({ ...key, tenantId }));
    if (part === undefined || tenantJob === undefined) return;
    const partSettled = part.status !== 'queued' && part.status !== 'running';
    await tenantJob.updateProgress({ ...figures(part, partSettled), status: part.status });
  };

  return {
    report: (runId, tenantId) => write(runId, tenantId, false).catch(() => undefined),
    reportSettled: (runId, tenantId) => write(runId, tenantId, true).catch(() => undefined),
  };
}

type Figures = {
  planned: number;
  embedded: number;
  superseded: number;
  gone: number;
  quarantined: number;
  failed: number;
};

function figures(counts: Figures, settled: boolean) {
  const { planned, embedded, superseded, gone, quarantined, failed } = counts;
  return {
    progress: progressPercent(counts, settled),
    done: embedded,
    total: planned,
    superseded,
    gone,
    quarantined,
    failed,
  };
}
