import type { IncomingMessage, ServerResponse } from 'node:http';
import rateLimit from '@fastify/rate-limit';
import type { Queue } from 'bullmq';
import type { FastifyBaseLogger, FastifyInstance, FastifyRequest, RawServerDefault } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { Registry } from 'prom-client';
import { addAdminPages } from './admin-pages.ts';
import { type AppDeps, createApp } from './app.ts';
import {
  type AccessSecrets,
  assertSecrets,
  createFailureLimit,
  FAILURES_PER_MINUTE_MAX,
  refusalOf,
  requireSecret,
} from './auth.ts';
import { createCallApi } from './console/call-api.ts';
import { addHealthRoutes } from './health.ts';
import { observeRequests } from './metrics.ts';
import { addOpenApi, describeAdminRoutes } from './openapi.ts';
import type { Problem } from './problems.ts';
import type { RunView } from './run-page.ts';
import { type EndedSessions, endedInMemory, Sessions } from './session.ts';

export const ADMIN_PREFIX = '/api/v1/admin';

/** The scope that routes under `/api/v1/admin` are added to; its handlers are typed by their zod schemas. */
export type AdminApp = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  ZodTypeProvider
>;
/** Adds routes, with paths relative to `/api/v1/admin`. */
export type AdminRoutes = (app: AdminApp) => void | Promise<void>;

export type ServerDeps = AppDeps &
  AccessSecrets & {
    /** Text of the badge on every page, for example `production`. */
    readonly environment: string;
    /** What Bull Board shows. */
    readonly queues: readonly Queue[];
    readonly routes: readonly AdminRoutes[];
    /** For the status page of a run; null when there is none. */
    readonly readRun?: (runId: string) => Promise<RunView | null>;
    /** Where jobs on the board lead to. */
    readonly runUrl?: (runId: string) => string;
    readonly registry?: Registry;
    readonly isStopping?: () => boolean;
    readonly failuresPerMinuteMax?: number;
    /** The clock of the sessions, in milliseconds. */
    readonly now?: () => number;
    /** Where sessions that were logged out are remembered. Only in this process when absent. */
    readonly endedSessions?: EndedSessions;
  };

/**
 * Builds the server of the API process. The caller listens and closes.
 *
 * @throws {Error} when a secret is too short to be one.
 */
export async function buildServer(deps: ServerDeps): Promise<FastifyInstance> {
  assertSecrets(deps);
  const { registry = new Registry(), isStopping = () => false, environment } = deps;

  const app = createApp({ ...deps, refuseUnreadable });
  app.decorateRequest('role', null);
  observeRequests(app, registry);
  await app.register(rateLimit, { global: false });
  await addOpenApi(app, environment);
  addHealthRoutes(app, app.readiness, { registry, isStopping });

  const countFailure = createFailureLimit(app, deps.failuresPerMinuteMax ?? FAILURES_PER_MINUTE_MAX);
  await app.register(
    async (scope) => {
      scope.addHook('onRequest', requireSecret(deps, countFailure));
      scope.setNotFoundHandler(app.answerNotFound);
      describeAdminRoutes(scope);
      for (const addRoutes of deps.routes) await addRoutes(scope.withTypeProvider<ZodTypeProvider>());
    },
    { prefix: ADMIN_PREFIX },
  );

  await addAdminPages(app, {
    secrets: deps,
    environment,
    queues: deps.queues,
    runUrl: deps.runUrl ?? ((runId) => `/admin/runs/${runId}`),
    readRun: deps.readRun ?? (async () => null),
    call: createCallApi(app, deps.adminSecret),
    sessions: new Sessions(deps, deps.endedSessions ?? endedInMemory(), deps.now),
    countFailure,
  });
  await app.ready();
  return app;

  async function refuseUnreadable(request: FastifyRequest): Promise<Problem | undefined> {
    const isGuarded = [ADMIN_PREFIX, '/admin'].some((prefix) => request.url.startsWith(`${prefix}/`));
    return isGuarded ? refusalOf(request, deps, countFailure) : undefined;
  }
}
