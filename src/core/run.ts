/**
 * The statuses a run can move to from each status.
 *
 * Every move is one SQL statement that names the statuses it may start from (`db/runs.ts`); this table is the authority
 * for those lists. Interrupted is not a status: a run that lost its jobs is planned again and stays `running`.
 */
export const RUN_TRANSITIONS = {
  // queued -> running: plan-run starts.
  // queued -> pausing: the operator pauses before it does.
  // queued -> cancelling: the operator cancels before it does.
  // queued -> failed: nothing can be planned, for example because the table is absent.
  queued: ['running', 'pausing', 'cancelling', 'failed'],

  // running -> pausing: the operator pauses; batches in hand go on to their end.
  // running -> cancelling: the operator cancels.
  // running -> succeeded: every tenant ended and a recount found nothing missing.
  // running -> incomplete: every tenant ended and rows are left, each with a reason.
  // running -> failed: a failure with the verdict `stop_run`.
  running: ['pausing', 'cancelling', 'succeeded', 'incomplete', 'failed'],

  // pausing -> paused: the batches in hand have ended.
  // pausing -> running: the operator resumes before they have.
  // pausing -> cancelling: the operator cancels.
  // pausing -> failed: a batch in hand ended with the verdict `stop_run`.
  pausing: ['paused', 'running', 'cancelling', 'failed'],

  // paused -> running: the operator resumes: the run is planned again.
  // paused -> cancelling: the operator cancels.
  paused: ['running', 'cancelling'],

  // cancelling -> cancelled: the batches in hand have ended.
  cancelling: ['cancelled'],

  // succeeded -> running: the watch goes on with the run that it started. A retry would find nothing to do.
  succeeded: ['running'],

  // incomplete, cancelled, failed -> running: the operator retries: what is still missing is planned again.
  // incomplete -> running, too: the watch goes on with its run.
  incomplete: ['running'],
  cancelled: ['running'],
  failed: ['running'],
} as const satisfies Record<string, readonly string[]>;

export type RunStatus = keyof typeof RUN_TRANSITIONS;

/** What starts a run: a call of the API, `infill.request_backfill` in SQL, or the watch. */
export const RUN_ORIGINS = ['api', 'sql', 'watch'] as const;
export type RunOrigin = (typeof RUN_ORIGINS)[number];

/** Rows of one batch job, unless whoever starts the run says otherwise. */
export const BATCH_SIZE_DEFAULT = 50;

/** Nothing more happens in these by itself; each has a terminal event. */
export const SETTLED_STATUSES = [
  'succeeded',
  'incomplete',
  'cancelled',
  'failed',
] as const satisfies RunStatus[];
export type SettledStatus = (typeof SETTLED_STATUSES)[number];

export const RUN_STATUSES = Object.keys(RUN_TRANSITIONS) as RunStatus[];
export const UNSETTLED_STATUSES = RUN_STATUSES.filter((status) => !isSettled(status));

export function isSettled(status: RunStatus): status is SettledStatus {
  return (SETTLED_STATUSES as readonly RunStatus[]).includes(status);
}

export function canMove(from: RunStatus, to: RunStatus): boolean {
  return (RUN_TRANSITIONS[from] as readonly RunStatus[]).includes(to);
}

/** The statuses from which a run may move to `to`, for the WHERE of the statement that moves it. */
export function originsOf(to: RunStatus): RunStatus[] {
  return RUN_STATUSES.filter((from) => canMove(from, to));
}

/** The statuses of a tenant's part of a run. Only `queued` and `running` are unsettled. */
export const RUN_TENANT_STATUSES = [
  'queued',
  'running',
  'succeeded',
  'incomplete',
  'cancelled',
  'failed',
] as const;
export type RunTenantStatus = (typeof RUN_TENANT_STATUSES)[number];

/**
 * A pass walks a tenant's missing rows once, by key. A further pass takes up what the one before could not: rows whose
 * text changed meanwhile, and rows that arrived.
 */
export const PASSES_MAX = 3;
