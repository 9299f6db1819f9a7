/** The routes that steer a run: cancel, pause, resume, retry, change. */
import { z } from 'zod';
import { type Control, controlRun } from '../backfill/control-run.ts';
import type { PlanDeps } from '../backfill/deps.ts';
import { recordAudit } from '../db/audit.ts';
import { changeRun, readRun } from '../db/runs.ts';
import { actorOf } from './auth.ts';
import { assertPriceKnown } from './backfills.ts';
import { Problem } from './problems.ts';
import { requireServices } from './readiness.ts';
import type { AdminApp } from './server.ts';
import { RunId, RunShape, runShape } from './shapes.ts';
import { type TenantIdDeps, tenantIdsIn } from './tenant-ids.ts';
import { repeated } from './validation.ts';

const SUMMARIES = {
  cancel: 'Cancel a run: batches in hand write what was paid for, nothing new starts',
  pause: 'Pause a run: batches in hand go on to their end',
  resume: 'Resume a paused run: what is missing is planned again',
  retry: 'Retry a settled run: what is still missing is planned again',
} as const satisfies Record<Control, string>;

const TENANTS_MAX = 1_000;

export type ControlRoutesDeps = Pick<PlanDeps, 'db' | 'queues'> & TenantIdDeps;

/** Registers the routes under `/api/v1/admin`. */
export function controlRoutes(deps: ControlRoutesDeps) {
  return (app: AdminApp): void => {
    for (const control of ['cancel', 'pause', 'resume', 'retry'] as const) controlRoute(app, deps, control);
    changeRoute(app, deps);
  };
}

function controlRoute(app: AdminApp, deps: ControlRoutesDeps, control: Control): void {
  const tenants = {
    tenantId: repeated(z.string().min(1).max(200), TENANTS_MAX).describe(
      'Only these tenants of the run. Repeatable.',
    ),
  };
  app.post(
    `/backfill-embeddings/:runId/${control}`,
    {
      preHandler: requireServices(['postgres', 'redis']),
      schema: {
        summary: SUMMARIES[control],
        description:
          'May be repeated. A move that the status of the run does not allow is a 409 that names the status; so is a retry ' +
          'while one for other tenants is at work.',
        params: z.object({ runId: RunId }),
        querystring: z.object(control === 'retry' ? tenants : {}),
        response: { 200: RunShape, 202: RunShape },
      },
    },
    async (request, reply) => {
      const { runId } = request.params;
      const { tenantId = [] } = request.query as { tenantId?: string[] };
      const outcome = await controlRun(deps, runId, control, {
        actor: actorOf(request),
        tenantIds: tenantId.length === 0 ? null : await tenantIdsOf(deps, runId, tenantId),
      });
      switch (outcome.kind) {
        case 'unknown':
          throw new Problem('not_found', `There is no run ${runId}.`);
        case 'forbidden': {
          const { status } = outcome.run;
          throw new Problem('status_forbids', `A run that is ${status} cannot take a ${control}.`, {
            extras: { runId, runStatus: status },
          });
        }
        case 'foreign': {
          const message = `must be a tenant of the run, which ${outcome.tenantId} is not`;
          throw new Problem('invalid_request', `tenantId ${message}`, {
            errors: [{ field: 'tenantId', message }],
          });
        }
        case 'busy':
          throw new Problem('unsettled_run', `The target has another unsettled run: ${outcome.run.runId}.`, {
            extras: { runId: outcome.run.runId },
          });
        case 'accepted':
          return reply.code(outcome.changed ? 202 : 200).send(runShape(outcome.run));
      }
    },
  );
}

/** As the run knows its tenants. One that its target cannot hold stays as it is, and is no tenant of the run. */
async function tenantIdsOf(deps: ControlRoutesDeps, runId: string, given: string[]): Promise<string[]> {
  const run = await readRun(deps.db, runId);
  return run === undefined ? given : tenantIdsIn(deps, run.target, given);
}

const ChangesBody = z
  .object({
    batchSize: z.int().min(1).max(2_048).optional(),
    window: z
      .int()
      .min(1)
      .max(256)
      .nullable()
      .optional()
      .describe('Batches of one tenant on Redis; null: by itself.'),
    maxTokens: z.int().min(1).nullable().optional().describe('null lifts the cap.'),
    maxCostUsd: z.number().positive().nullable().optional().describe('null lifts the cap.'),
  })
  .refine((changes) => Object.keys(changes).length > 0, {
    error: 'must name at least one of batchSize, window, maxTokens, maxCostUsd',
  });

function changeRoute(app: AdminApp, { db, targets }: ControlRoutesDeps): void {
  app.patch(
    '/backfill-embeddings/:runId',
    {
      preHandler: requireServices(['postgres']),
      schema: {
        summary: 'Change an unsettled run, from the next admission on',
        params: z.object({ runId: RunId }),
        body: ChangesBody,
        response: { 200: RunShape },
      },
    },
    async (request) => {
      const { runId } = request.params;
      const before = await readRun(db, runId);
      if (before === undefined) throw new Problem('not_found', `There is no run ${runId}.`);
      const model = targets.get(before.target)?.model;
      if (typeof request.body.maxCostUsd === 'number' && model !== undefined) assertPriceKnown(model);
      if (!(await changeRun(db, runId, request.body))) {
        const { status } = (await readRun(db, runId)) ?? before;
        throw new Problem('status_forbids', `A run that is ${status} cannot be changed.`, {
          extras: { runId, runStatus: status },
        });
      }
      await recordAudit(db, {
        actor: actorOf(request),
        action: 'run.changed',
        runId,
        subject: before.target,
        details: request.body,
      });
      return runShape((await readRun(db, runId)) ?? before);
    },
  );
}
