import cookie from '@fastify/cookie';
import formbody from '@fastify/formbody';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import {
  type AccessSecrets,
  type CountFailure,
  noSecret,
  refusalOf,
  refusalOfRole,
  SECRET_HEADER,
} from './auth.ts';
import { addBoard, type BoardOptions } from './board.ts';
import { type CallApi, consoleLinks, saidIn } from './console/frame.ts';
import { addOverview } from './console/overview.ts';
import { Recent } from './console/recent.ts';
import { addRuns, runControls, runMore } from './console/runs.ts';
import { addStart } from './console/start.ts';
import { addUpkeep } from './console/upkeep.ts';
import { asSeen, homeOf } from './home.ts';
import { html } from './html.ts';
import { sendLoginPage, sendLogoutPage } from './login-page.ts';
import { answerError, Problem } from './problems.ts';
import { type RunView, sendAwayPage, sendNoRunPage, sendRunPage } from './run-page.ts';
import { isFromOwnPage, localPage, type Sessions } from './session.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** A page under `/admin` that is shown without a session. */
    open?: boolean;
  }
}

export type AdminPagesDeps = Omit<BoardOptions, 'log'> & {
  readonly secrets: AccessSecrets;
  readonly countFailure: CountFailure;
  /** Null when there is no such run. */
  readonly readRun: (runId: string) => Promise<RunView | null>;
  readonly sessions: Sessions;
  /** Calls the API for the console. */
  readonly call: CallApi;
};

const hidden = { schema: { hide: true } };
const open = { ...hidden, config: { open: true } };

/**
 * Adds the pages for people under `/admin`: login, logout, Bull Board and the status of a run.
 *
 * Everything here but login and logout needs a session or the admin secret in its header: HTML, API, static files and
 * unknown paths alike. Who has neither gets the login page where a browser navigates, and 401 elsewhere.
 */
export async function addAdminPages(app: FastifyInstance, deps: AdminPagesDeps): Promise<void> {
  app.get('/', hidden, async (request, reply) => reply.redirect(homeOf(request), 302));
  await app.register(
    async (scope) => {
      await scope.register(cookie);
      await scope.register(formbody);
      scope.addHook('onRequest', refuseForeignOrigins);
      scope.addHook('onRequest', createGuard(deps));
      scope.setNotFoundHandler(app.answerNotFound);

      addLogin(scope, deps);
      addRunPage(scope, deps);
      const recent = new Recent();
      for (const add of [addOverview, addRuns, addStart, addUpkeep]) add(scope, { ...deps, recent });
      addBoard(scope, { ...deps, log: app.log });
    },
    { prefix: '/admin' },
  );
}

// Beside SameSite=Strict, which a browser may not know or another page of the same site gets around.
async function refuseForeignOrigins(request: FastifyRequest, reply: FastifyReply) {
  const changes = request.method !== 'GET' && request.method !== 'HEAD';
  if (!changes || isFromOwnPage(request)) return;
  const problem = new Problem('foreign_origin', 'Open the page on this server and try again from there.');
  return answerError(problem, request, reply);
}

function createGuard({ secrets, countFailure, sessions, environment }: AdminPagesDeps) {
  return async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply | undefined> => {
    if (request.routeOptions.config.open === true) return;

    const problem =
      request.headers[SECRET_HEADER] === undefined
        ? await refusalOfSession(request, sessions)
        : await refusalOf(request, secrets, countFailure);
    if (problem === undefined) return;
    const navigates = request.method === 'GET' && (request.headers.accept ?? '').includes('text/html');
    // Not thrown: errors in the board's routes would go to its own handler.
    if (!navigates) return answerError(problem, request, reply);
    reply.code(problem.status).headers(problem.headers);
    return sendLoginPage(request, reply, { environment, next: localPage(request.url) });
  };
}

async function refusalOfSession(request: FastifyRequest, sessions: Sessions): Promise<Problem | undefined> {
  request.role = (await sessions.roleOf(request)) ?? null;
  if (request.role !== null) return refusalOfRole(request, request.role);
  // A missing or ended session is no attempt at the secret: an open board would use up the limit by asking for news.
  return new Problem('unauthorized', 'Log in at /admin/login, or send the admin secret in its header.');
}

function addLogin(scope: FastifyInstance, { countFailure, sessions, environment }: AdminPagesDeps): void {
  scope.get<{ Querystring: { next?: unknown } }>('/login', open, async (request, reply) => {
    const next = localPage(request.query.next);
    if ((await sessions.roleOf(request)) !== undefined) return reply.redirect(asSeen(request, next), 303);
    return sendLoginPage(request, reply, { environment, next });
  });

  scope.post('/login', open, async (request, reply) => {
    const { secret, next } = (request.body ?? {}) as { secret?: unknown; next?: unknown };
    const role = typeof secret === 'string' ? await sessions.logIn(secret, request, reply) : undefined;
    if (role !== undefined) {
      request.log.info({ address: request.ip, role }, 'logged_in');
      return reply.redirect(asSeen(request, localPage(next)), 303);
    }
    const problem = secret === undefined || secret === '' ? noSecret() : await countFailure(request);
    const error =
      problem.kind === 'too_many_failures'
        ? `Too many wrong secrets from this address. ${problem.detail}`
        : 'This is not the admin secret.';
    reply.code(problem.status).headers(problem.headers);
    return sendLoginPage(request, reply, { environment, next: localPage(next), error });
  });

  scope.get('/logout', open, async (request, reply) => sendLogoutPage(request, reply, environment));

  scope.post('/logout', open, async (request, reply) => {
    await sessions.logOut(request, reply);
    return reply.redirect(asSeen(request, '/admin/login'), 303);
  });
}

function addRunPage(scope: FastifyInstance, { readRun, environment, call }: AdminPagesDeps): void {
  scope.get<{ Params: { runId: string } }>('/runs/:runId', hidden, async (request, reply) => {
    const { postgres } = await request.server.readiness.report(['postgres']);
    if (postgres !== 'ok')
      return sendAwayPage(reply, environment, `Postgres is ${postgres}.`, consoleLinks(request));
    const view = await readRun(request.params.runId);
    if (view === null) return sendNoRunPage(reply, environment, consoleLinks(request));
    return sendRunPage(reply, environment, view, {
      links: consoleLinks(request),
      controls: html`${saidIn(request)}${runControls(request, view.run)}`,
      more: await runMore(request, { call }, view.run.runId),
    });
  });
}
