import { createHash, randomUUID } from 'node:crypto';
import { BATCH_SIZE_DEFAULT, type RunOrigin } from '../core/run.ts';
import { recordAudit } from '../db/audit.ts';
import type { Db } from '../db/client.ts';
import {
  deleteQueuedRun,
  insertRun,
  type RunRecord,
  readRun,
  readRunByIdempotencyKey,
  readUnsettledRun,
} from '../db/runs.ts';
import { enqueueRun } from '../queue/enqueue.ts';
import type { PlanDeps } from './deps.ts';

export type RunRequest = {
  readonly target: string;
  readonly dryRun: boolean;
  readonly batchSize: number;
  /** Absent where it is not: what an Idempotency-Key stands for has not changed. */
  readonly includeUnverified?: true | undefined;
  readonly rowLimit: number | null;
  readonly tenantIds: string[] | null;
  readonly maxTokens: number | null;
  readonly maxCostUsd: number | null;
};

export type StartOutcome =
  | { readonly kind: 'started' | 'repeated'; readonly run: RunRecord }
  /** The target has an unsettled run. */
  | { readonly kind: 'busy'; readonly run: RunRecord }
  /** The idempotency key came before, with other parameters. */
  | { readonly kind: 'key_reused'; readonly run: RunRecord };

/**
 * Inserts a run and enqueues its plan.
 *
 * A second call with the same idempotency key and parameters starts nothing and returns the first run. When Redis does not
 * take the job the run is deleted again and the error thrown on; a process that dies between the two leaves a queued run
 * that the sweep enqueues.
 */
export async function startRun(
  deps: Pick<PlanDeps, 'db' | 'queues'>,
  request: RunRequest,
  { actor, idempotencyKey }: { actor: string; idempotencyKey: string | null },
): Promise<StartOutcome> {
  const { db, queues } = deps;
  const requestHash = createHash('sha256').update(JSON.stringify(request)).digest('hex');
  const runId = randomUUID();

  const inserted = await db.transaction(async (tx) => {
    const isNew = await insertRun(tx as unknown as typeof db, {
      ...request,
      runId,
      origin: 'api',
      idempotencyKey,
      requestHash,
    });
    if (isNew) await recordStart(tx as unknown as typeof db, runId, request, { actor });
    return isNew;
  });
  if (!inserted) return findObstacle(deps, request, { actor, idempotencyKey }, requestHash);

  try {
    await enqueueRun(queues, { runId, generation: 1 }, request.target);
  } catch (error) {
    await deleteQueuedRun(db, runId);
    throw error;
  }
  const run = await readRun(db, runId);
  if (run === undefined) throw new Error('the run vanished as it was started');
  return { kind: 'started', run };
}

/**
 * Inserts a run that nobody called for by the API: what asks for it is there until it is served. Part of the caller's
 * transaction, which enqueues the run's plan when it has committed. When that fails, or the process dies, the sweep does.
 *
 * Returns its id, or undefined while the target has an unsettled run.
 */
export async function insertOwnRun(
  tx: Db,
  { target, tenantIds }: Pick<RunRequest, 'target' | 'tenantIds'>,
  { actor, origin, details }: { actor: string; origin: RunOrigin; details?: Record<string, unknown> },
): Promise<string | undefined> {
  const runId = randomUUID();
  const request: RunRequest = {
    target,
    tenantIds,
    dryRun: false,
    batchSize: BATCH_SIZE_DEFAULT,
    rowLimit: null,
    maxTokens: null,
    maxCostUsd: null,
  };
  const isNew = await insertRun(tx, { ...request, runId, origin, idempotencyKey: null, requestHash: null });
  if (!isNew) return undefined;
  await recordStart(tx, runId, request, { actor, details });
  return runId;
}

async function recordStart(
  tx: Db,
  runId: string,
  request: RunRequest,
  { actor, details }: { actor: string; details?: Record<string, unknown> | undefined },
): Promise<void> {
  await recordAudit(tx, {
    actor,
    action: 'run.started',
    runId,
    subject: request.target,
    details: { ...request, ...details },
  });
}

async function findObstacle(
  { db, queues }: Pick<PlanDeps, 'db' | 'queues'>,
  request: RunRequest,
  caller: { actor: string; idempotencyKey: string | null },
  requestHash: string,
): Promise<StartOutcome> {
  if (caller.idempotencyKey !== null) {
    const run = await readRunByIdempotencyKey(db, caller.idempotencyKey);
    if (run !== undefined) return { kind: run.requestHash === requestHash ? 'repeated' : 'key_reused', run };
  }
  const run = await readUnsettledRun(db, request.target);
  if (run !== undefined) return { kind: 'busy', run };
  // The run that was in the way has settled since; the caller may simply try again.
  return startRun({ db, queues }, request, caller);
}
