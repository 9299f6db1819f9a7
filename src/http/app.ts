import { randomUUID } from 'node:crypto';
import type { Socket } from 'node:net';
import {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyRequest,
  fastify,
  LogController,
} from 'fastify';
import { serializerCompiler } from 'fastify-type-provider-zod';
import type { Log } from '../log.ts';
import { acceptBodies } from './bodies.ts';
import { answerError, PROBLEM_CONTENT_TYPE, Problem, type ProblemKind, problemBody } from './problems.ts';
import { Readiness, type ReadinessCheck } from './readiness.ts';
import { validatorCompiler } from './validation.ts';

/** The largest body is a credential; 64 KiB leaves room for long addresses. */
const BODY_BYTES_MAX = 64 * 1024;
/** Text ids may be long; Fastify's own limit of 100 would cut off a percent-encoded one. */
const PARAM_LENGTH_MAX = 500;
/** For receiving a request, not for answering it: `wait` may take a minute. */
const RECEIVE_TIMEOUT_MS = 15_000;

declare module 'fastify' {
  interface FastifyInstance {
    /** For scopes whose hooks are to run before an unknown path is called unknown. */
    answerNotFound: (request: FastifyRequest) => Promise<never>;
  }
  interface FastifyContextConfig {
    /** Logged at debug level: probes would fill the log. */
    quiet?: boolean;
  }
}

export type AppDeps = {
  readonly log: Log;
  readonly checks: readonly ReadinessCheck[];
  /** As Fastify's option: whose `X-Forwarded-*` headers to believe. Nobody's when absent. */
  readonly trustProxy?: boolean | string;
  /** How long a request may take to arrive, head and body together. 15 s when absent. */
  readonly receiveTimeoutMs?: number;
  /**
   * Why a request whose path cannot be read may not even learn that. Such a request reaches no scope and none of its hooks.
   */
  readonly refuseUnreadable?: (request: FastifyRequest) => Promise<Problem | undefined>;
};

/**
 * Makes a server without routes, whose every error is a problem: also unknown routes, wrong methods and requests that
 * are not HTTP.
 */
export function createApp({
  log,
  checks,
  trustProxy = false,
  refuseUnreadable,
  receiveTimeoutMs = RECEIVE_TIMEOUT_MS,
}: AppDeps): FastifyInstance {
  const app = fastify({
    loggerInstance: log as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'requestId' }),
    genReqId: (request) => requestIdOf(request.headers['x-request-id']),
    bodyLimit: BODY_BYTES_MAX,
    requestTimeout: receiveTimeoutMs,
    http: {
      headersTimeout: receiveTimeoutMs,
      requestTimeout: receiveTimeoutMs,
      // Node looks every 30 s unless it is told otherwise, so that a slow request would have three times as long.
      connectionsCheckingInterval: Math.min(1_000, receiveTimeoutMs / 2),
    },
    routerOptions: { maxParamLength: PARAM_LENGTH_MAX },
    trustProxy,
    // While closing, what still comes in on open connections is answered, by `/readyz` with 503.
    return503OnClosing: false,
    frameworkErrors: (error, request, reply) => {
      void Promise.resolve(refuseUnreadable?.(request)).then(
        (refusal) => answerError(refusal ?? error, request, reply),
        (failure: unknown) => answerError(failure, request, reply),
      );
    },
    clientErrorHandler: refuseMalformed,
  });

  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  app.setErrorHandler(answerError);
  const answerNotFound = createNotFoundHandler(app);
  app.setNotFoundHandler(answerNotFound);
  app.decorate('answerNotFound', answerNotFound);
  // Before the body is read, and after the hooks that ask for a secret: nobody is to mend the body of a route that is not there.
  app.addHook('preParsing', async (request) => {
    if (request.is404 || namesNoFile(request)) await answerNotFound(request);
  });
  const readiness = new Readiness(checks);
  app.decorate('readiness', readiness);
  app.addHook('onListen', async () => void readiness.tell(app.log));
  acceptBodies(app);
  logRequests(app);
  return app;
}

/** Whether the path of a file is none that a folder can have: the routes of files would fail on it instead of finding nothing. */
function namesNoFile({ params }: FastifyRequest): boolean {
  const path = (params as Readonly<Record<string, string>> | undefined)?.['*'];
  return path !== undefined && (path.startsWith('/') || path.includes('\\') || path.includes('\0'));
}

function requestIdOf(given: string | string[] | undefined): string {
  return typeof given === 'string' && /^[\w-]{8,64}$/.test(given) ? given : randomUUID();
}

/** One event a request. Without its query, which may name tenants, and with nothing of its body or headers. */
function logRequests(app: FastifyInstance): void {
  app.addHook('onRequest', async (request, reply) => {
    reply.headers({ 'x-request-id': request.id, 'x-content-type-options': 'nosniff' });
  });
  app.addHook('onResponse', async (request, reply) => {
    const { method, routeOptions } = request;
    const fields = {
      method,
      route: routeOptions.url ?? pathOf(request).slice(0, 200),
      status: reply.statusCode,
      durationMs: Math.round(reply.elapsedTime),
    };
    request.log[routeOptions.config?.quiet === true ? 'debug' : 'info'](fields, 'request_done');
  });
}

function pathOf(request: FastifyRequest): string {
  return request.url.split('?', 1)[0] as string;
}

/** Fastify answers 404 where only the method is wrong; this tells the two apart. Usable in every scope of `app`. */
function createNotFoundHandler(app: FastifyInstance) {
  const known: { readonly methods: readonly string[]; readonly pattern: RegExp }[] = [];
  app.addHook('onRoute', ({ method, url }) => {
    known.push({ methods: [method].flat(), pattern: patternOf(url) });
  });

  return async (request: FastifyRequest): Promise<never> => {
    const path = pathOf(request);
    const allowed = new Set(
      known.filter(({ pattern }) => pattern.test(path)).flatMap(({ methods }) => methods),
    );
    const shown = path.slice(0, 200);
    // A file that is not there comes from a route that takes the method.
    if (allowed.size === 0 || allowed.has(request.method))
      throw new Problem('not_found', `There is no route ${request.method} ${shown}.`);

    const methods = [...allowed].toSorted().join(', ');
    throw new Problem('method_not_allowed', `${shown} takes ${methods}, not ${request.method}.`, {
      headers: { allow: methods },
    });
  };
}

/** A route's path as Fastify writes it, `/runs/:runId/*`, as a regular expression. */
function patternOf(url: string): RegExp {
  const escaped = url.replace(/[.+?^${}()|[\]\\]/g, '\\$&');
  return new RegExp(`^${escaped.replace(/:\w+/g, '[^/]+').replaceAll('*', '.*')}$`);
}

const MALFORMED: Readonly<Record<string, readonly [string, ProblemKind, string]>> = {
  ERR_HTTP_REQUEST_TIMEOUT: ['408 Request Timeout', 'invalid_request', 'The request did not arrive in time.'],
  HPE_HEADER_OVERFLOW: [
    '431 Request Header Fields Too Large',
    'invalid_request',
    'The headers are too large.',
  ],
};

/** Answers on the bare socket what Node could not read as HTTP. */
function refuseMalformed(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const [line, kind, detail] = MALFORMED[error.code ?? ''] ?? [
    '400 Bad Request',
    'invalid_request' as const,
    'The request is not valid HTTP.',
  ];
  const body = JSON.stringify({
    ...problemBody(new Problem(kind, detail)),
    status: Number.parseInt(line, 10),
  });
  const head = [
    `HTTP/1.1 ${line}`,
    `Content-Type: ${PROBLEM_CONTENT_TYPE}; charset=utf-8`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    'X-Content-Type-Options: nosniff',
    'Connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
}
