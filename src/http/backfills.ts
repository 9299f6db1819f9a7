/** The routes of runs: start, look, steer. */
import { z } from 'zod';
import type { PlanDeps } from '../backfill/deps.ts';
import { type RunRequest, startRun } from '../backfill/start-run.ts';
import { costUsd } from '../core/cost.ts';
import { BATCH_SIZE_DEFAULT, isSettled, RUN_STATUSES, type RunStatus } from '../core/run.ts';
import type { Target } from '../core/target.ts';
import type { CheckedTarget } from '../db/catalog.ts';
import { listRowOutcomes, type RowOutcome } from '../db/run-batches.ts';
import { listRunTenants } from '../db/run-tenants.ts';
import { listRuns, type RunRecord, readRun } from '../db/runs.ts';
import { actorOf } from './auth.ts';
import { decodeCursor, pageOf } from './cursors.ts';
import { Problem } from './problems.ts';
import { requireServices } from './readiness.ts';
import type { AdminApp } from './server.ts';
import { RunId, RunShape, runShape, TenantShape, tenantShape } from './shapes.ts';
import { tenantIdsOf } from './tenant-ids.ts';
import { flag, positiveDecimal, repeated, wholeNumber } from './validation.ts';

export type BackfillRoutesDeps = Pick<PlanDeps, 'db' | 'queues' | 'inspect'> & {
  readonly targets: ReadonlyMap<string, Target>;
};

/** What one request to OpenAI may hold. */
const BATCH_SIZE_MAX = 2_048;
const WAIT_SECONDS_MAX = 60;
const WAIT_POLL_MS = 150;
const PAGE_DEFAULT = 100;
const PAGE_MAX = 1_000;
const TENANTS_MAX = 1_000;

const StartQuery = z.object({
  target: z.string().min(1).max(100).optional().describe('A target of targets.json. Default: the first.'),
  tenantId: repeated(z.string().min(1).max(200), TENANTS_MAX).describe('Only these tenants. Repeatable.'),
  dryRun: flag()
    .default(false)
    .describe('Do everything, calls to the provider included, except the UPDATE. Spends tokens.'),
  batchSize: wholeNumber(1, BATCH_SIZE_MAX).default(BATCH_SIZE_DEFAULT).describe('Rows of one batch job.'),
  includeUnverified: flag()
    .default(false)
    .describe('Fill rows anew that have an embedding and no stamp, too. Only where the target has a stamp.'),
  limit: wholeNumber(1, 1_000_000_000)
    .optional()
    .describe('Rows to work on at most, shared out among the tenants.'),
  maxTokens: wholeNumber(1, 1_000_000_000_000)
    .optional()
    .describe('Stop admitting when this many tokens are spent.'),
  maxCostUsd: positiveDecimal(1_000_000)
    .optional()
    .describe('Stop admitting when this much is spent. Only where the price of the model is known.'),
  wait: wholeNumber(0, WAIT_SECONDS_MAX).optional().describe('Seconds to wait for the end of the run.'),
});

const RunParams = z.object({ runId: RunId });
const paged = {
  limit: wholeNumber(1, PAGE_MAX).default(PAGE_DEFAULT),
  cursor: z.string().max(2_000).optional(),
};
const RunCursor = z.strictObject({
  // As a run shows it. Postgres has no year 0.
  createdAt: z.iso.datetime({ precision: 6 }).refine((moment) => !moment.startsWith('0000')),
  runId: RunId,
});
const TenantCursor = z.strictObject({ tenantId: z.string() });
const PlaceCursor = z.strictObject({
  tenantId: z.string(),
  generation: z.int32(),
  sequence: z.int32(),
  place: z.int32(),
});
const OUTCOMES = ['embedded', 'would_embed', 'superseded', 'gone', 'quarantined', 'failed'] as const;

/** Registers the routes under `/api/v1/admin`. */
export function backfillRoutes(deps: BackfillRoutesDeps) {
  return (app: AdminApp): void => {
    startRoute(app, deps);
    readRoutes(app, deps);
    pageRoutes(app, deps);
  };
}

function startRoute(app: AdminApp, deps: BackfillRoutesDeps): void {
  app.post(
    '/backfill-embeddings',
    {
      preHandler: requireServices(['postgres', 'redis']),
      schema: {
        summary: 'Start a run',
        description:
          'Finds the rows that have text and no embedding, and fills them. `dryRun=true` calls the provider and spends ' +
          'tokens too, and writes nothing. Answers 202, or 200 if `wait` was given and the run settled meanwhile.',
        querystring: StartQuery,
        headers: z.looseObject({ 'idempotency-key': z.string().min(1).max(200).optional() }),
        response: { 200: RunShape, 202: RunShape },
      },
    },
    async (request, reply) => {
      const { wait, ...query } = request.query;
      const wanted = await checkedRequest(deps, query);
      const idempotencyKey = request.headers['idempotency-key'] ?? null;
      const outcome = await startRun(deps, wanted, { actor: actorOf(request), idempotencyKey });
      const { runId } = outcome.run;
      if (outcome.kind === 'busy') {
        throw new Problem('unsettled_run', `Target "${wanted.target}" has an unsettled run: ${runId}.`, {
          extras: { runId },
        });
      }
      if (outcome.kind === 'key_reused') {
        const detail = `The Idempotency-Key came before, with other parameters, for run ${runId}.`;
        throw new Problem('key_reused', detail, { extras: { runId } });
      }
      // The socket and not the request, which counts as destroyed as soon as its body was read.
      const run =
        wait === undefined ? outcome.run : await waitForEnd(deps, outcome.run, wait, request.socket);
      return reply.code(wait !== undefined && isSettled(run.status) ? 200 : 202).send(runShape(run));
    },
  );
}

/** @throws {Problem} when the target is unknown, absent or not as described: nothing is started then. */
async function checkedRequest(
  deps: BackfillRoutesDeps,
  query: Omit<z.output<typeof StartQuery>, 'wait'>,
): Promise<RunRequest> {
  const known = [...deps.targets.keys()];
  const target = query.target ?? known[0];
  const state = target === undefined ? undefined : await deps.inspect(target);
  if (target === undefined || state === undefined) {
    const message = `must be one of ${known.join(', ') || '(no target is configured)'}`;
    throw new Problem('invalid_request', `target ${message}`, { errors: [{ field: 'target', message }] });
  }
  if (state.kind !== 'ready')
    throw new Problem('target_not_ready', state.detail, { extras: { targetState: state.kind } });
  if (query.includeUnverified) assertStamp(state.target);
  if (query.maxCostUsd !== undefined) assertPriceKnown(state.target.model);
  return {
    target,
    dryRun: query.dryRun,
    batchSize: query.batchSize,
    ...(query.includeUnverified && { includeUnverified: true as const }),
    rowLimit: query.limit ?? null,
    tenantIds: query.tenantId.length === 0 ? null : tenantIdsOf(state.target, query.tenantId),
    maxTokens: query.maxTokens ?? null,
    maxCostUsd: query.maxCostUsd ?? null,
  };
}

/** @throws {Problem} when nothing tells the target's unverified rows from the others. */
function assertStamp({ name, stamp }: CheckedTarget): void {
  if (stamp !== undefined) return;
  const message = `needs a target with a stamp, which "${name}" has not`;
  throw new Problem('invalid_request', `includeUnverified ${message}`, {
    errors: [{ field: 'includeUnverified', message }],
  });
}

/** Polls the run until it is settled, the time is over, or the caller is gone. */
async function waitForEnd(
  { db }: BackfillRoutesDeps,
  run: RunRecord,
  seconds: number,
  connection: { destroyed?: boolean },
): Promise<RunRecord> {
  const deadlineMs = Date.now() + seconds * 1_000;
  let latest = run;
  while (!isSettled(latest.status) && Date.now() < deadlineMs && !connection.destroyed) {
    await new Promise((resolve) => setTimeout(resolve, WAIT_POLL_MS));
    latest = (await readRun(db, run.runId)) ?? latest;
  }
  return latest;
}

function readRoutes(app: AdminApp, { db }: BackfillRoutesDeps): void {
  app.get(
    '/backfill-embeddings',
    {
      preHandler: requireServices(['postgres']),
      schema: {
        summary: 'List runs, the newest first',
        querystring: z.object({
          ...paged,
          target: z.string().min(1).max(100).optional(),
          status: z.enum(RUN_STATUSES as [RunStatus, ...RunStatus[]]).optional(),
        }),
        response: { 200: z.object({ items: z.array(RunShape), nextCursor: z.string().nullable() }) },
      },
    },
    async ({ query: { limit, cursor, target, status } }) => {
      const before = decodeCursor(cursor, RunCursor);
      const found = await listRuns(db, { before, limit: limit + 1, target, status });
      const { page, nextCursor } = pageOf(found, limit, ({ createdAt, runId }) => ({ createdAt, runId }));
      return { items: page.map((run) => runShape(run)), nextCursor };
    },
  );
  app.get(
    '/backfill-embeddings/:runId',
    {
      preHandler: requireServices(['postgres']),
      schema: { summary: 'Show a run', params: RunParams, response: { 200: RunShape } },
    },
    async ({ params: { runId } }) => runShape(await existingRun(db, runId)),
  );
}

function pageRoutes(app: AdminApp, { db }: BackfillRoutesDeps): void {
  app.get(
    '/backfill-embeddings/:runId/tenants',
    {
      preHandler: requireServices(['postgres']),
      schema: {
        summary: "List a run's tenants",
        params: RunParams,
        querystring: z.object(paged),
        response: { 200: z.object({ items: z.array(TenantShape), nextCursor: z.string().nullable() }) },
      },
    },
    async ({ params: { runId }, query: { limit, cursor } }) => {
      await existingRun(db, runId);
      const after = decodeCursor(cursor, TenantCursor);
      const found = await listRunTenants(db, runId, { after: after?.tenantId ?? null, limit: limit + 1 });
      const { page, nextCursor } = pageOf(found, limit, ({ tenantId }) => ({ tenantId }));
      return { items: page.map(tenantShape), nextCursor };
    },
  );
  app.get(
    '/backfill-embeddings/:runId/rows',
    {
      preHandler: requireServices(['postgres']),
      schema: {
        summary: 'List the rows that a run wrote, would write, or could not',
        params: RunParams,
        querystring: z.object({ ...paged, outcome: z.enum(OUTCOMES).optional() }),
        response: { 200: z.object({ items: z.array(RowShape), nextCursor: z.string().nullable() }) },
      },
    },
    async ({ params: { runId }, query: { limit, cursor, outcome } }) => {
      const run = await existingRun(db, runId);
      const after = decodeCursor(cursor, PlaceCursor);
      // What a dry run would write is stored as `embedded`; each kind of run has only one of the two.
      if (outcome === (run.dryRun ? 'embedded' : 'would_embed')) return { items: [], nextCursor: null };
      const stored = outcome === 'would_embed' ? 'embedded' : (outcome ?? null);
      const found = await listRowOutcomes(db, runId, { after, limit: limit + 1, outcome: stored });
      const { page, nextCursor } = pageOf(found, limit, ({ tenantId, generation, sequence, place }) => ({
        tenantId,
        generation,
        sequence,
        place,
      }));
      return { items: page.map((row) => rowShape(row, run.dryRun)), nextCursor };
    },
  );
}

const RowShape = z.object({
  tenantId: z.string(),
  rowId: z.string(),
  outcome: z.enum(OUTCOMES),
  reason: z.string().nullable(),
});

function rowShape(
  { tenantId, rowId, outcome, reason }: RowOutcome,
  dryRun: boolean,
): z.output<typeof RowShape> {
  return { tenantId, rowId, outcome: dryRun && outcome === 'embedded' ? 'would_embed' : outcome, reason };
}

/** @throws {Problem} when no cost of this model can be reckoned: a cap on it would never stop anything. */
export function assertPriceKnown(model: string): void {
  if (costUsd(model, 1) !== null) return;
  const message = `cannot be kept, since no price of the model ${model} is known: set maxTokens instead`;
  throw new Problem('invalid_request', `maxCostUsd ${message}`, {
    errors: [{ field: 'maxCostUsd', message }],
  });
}

/** @throws {Problem} 404. */
export async function existingRun(db: PlanDeps['db'], runId: string): Promise<RunRecord> {
  const run = await readRun(db, runId);
  if (run === undefined) throw new Problem('not_found', `There is no run ${runId}.`);
  return run;
}
