import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import type { QueueJobJson } from '@bull-board/api/typings/app';
import { FastifyAdapter } from '@bull-board/fastify';
import type { Queue } from 'bullmq';
import type { FastifyBaseLogger, FastifyInstance } from 'fastify';
import { describeError, scrub } from '../log.ts';
import { QUEUES } from '../queue/jobs.ts';
import { protect } from './html.ts';
import { answerError, PROBLEM_CONTENT_TYPE, Problem, problemBody, toProblem } from './problems.ts';

export const BOARD_PATH = '/admin/queues';

/** The board's page asks an address of Google for its fonts; this keeps it from going out, and it uses the system's. */
const BOARD_POLICY = [
  "default-src 'self'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "font-src 'self' data:",
  "worker-src 'self' blob:",
  "object-src 'none'",
  "base-uri 'self'",
  "frame-ancestors 'none'",
].join('; ');

const DESCRIPTIONS: Readonly<Record<string, string>> = {
  [QUEUES.runs]: 'One job a run: finds the tenants with missing rows, waits for them, then settles the run.',
  [QUEUES.tenants]:
    "One job a tenant of a run: admits the tenant's batches a few at a time and waits for them.",
  [QUEUES.batches]:
    'One job a batch: reads its rows, has them embedded, checks the answer, writes the vectors.',
};

export type BoardOptions = {
  readonly queues: readonly Queue[];
  /** Text of the badge, for example `production`. */
  readonly environment: string;
  /** Where a job's run is shown. */
  readonly runUrl: (runId: string) => string;
  readonly log: FastifyBaseLogger;
};

/**
 * Adds Bull Board at `/admin/queues`, to look at and not to touch (docs/decisions/0004-board-is-read-only.md).
 *
 * Call it in a scope of the prefix `/admin` whose `onRequest` hook lets only known people through: the board's page, its
 * API and its static files get no guard of their own.
 */
export function addBoard(scope: FastifyInstance, { queues, environment, runUrl, log }: BoardOptions): void {
  const server = new FastifyAdapter().setBasePath(BOARD_PATH);
  createBullBoard({
    queues: queues.map((queue) => adapterOf(queue, runUrl)),
    serverAdapter: server,
    options: {
      uiConfig: {
        boardTitle: 'Infill',
        environment: { label: environment, color: colorOf(environment), textColor: '#ffffff' },
        miscLinks: [
          { text: 'API', url: '/docs' },
          { text: 'Log out', url: '/admin/logout' },
        ],
        hideDocsLink: true,
      },
    },
  });
  server.setErrorHandler((error) => {
    const { status } = toProblem(error, '');
    if (status >= 500) log.error({ err: describeError(error) }, 'board_failed');
    // Only the status counts: asProblem writes the answer.
    return { status: status as 500, body: {} };
  });

  void scope.register(async (board) => {
    board.addHook('onRequest', async (request, reply) => {
      protect(reply, BOARD_POLICY);
      if (request.method === 'GET' || request.method === 'HEAD') return;
      request.log.warn({ method: request.method, path: request.url.slice(0, 200) }, 'board_action_refused');
      const problem = new Problem(
        'method_not_allowed',
        'The board is for looking. Use the API to act on a run: /docs',
        {
          headers: { allow: 'GET, HEAD' },
        },
      );
      // Not thrown: the board's own error handler would lose status and headers.
      return answerError(problem, request, reply);
    });
    makeAnswersSafe(board);
    await board.register(server.registerPlugin(), { prefix: '/queues' });
  });
}

function adapterOf(queue: Queue, runUrl: BoardOptions['runUrl']): BullMQAdapter {
  const adapter = new BullMQAdapter(queue, {
    readOnlyMode: true,
    description: DESCRIPTIONS[queue.name] ?? '',
    externalJobUrl: (job) => {
      const runId = runIdOf(job);
      return runId === undefined
        ? { href: BOARD_PATH }
        : { displayText: 'Status of the run', href: runUrl(runId) };
    },
  });
  adapter.setFormatter('data', (data) => keysOnly(data, DATA_FIELDS));
  adapter.setFormatter('progress', figuresOnly);
  adapter.setFormatter('returnValue', figuresOnly);
  return adapter;
}

/** The keys that our jobs carry. A field that somebody adds is hidden until it is put here, whatever it holds. */
const DATA_FIELDS: readonly string[] = [
  'v',
  'runId',
  'generation',
  'step',
  'tenantId',
  'sequence',
  'afterId',
  'throughId',
  'rows',
  'target',
  'isWhole',
];

function keysOnly(data: unknown, fields: readonly string[]): unknown {
  if (typeof data !== 'object' || data === null) return {};
  return Object.fromEntries(
    Object.entries(data).map(([field, value]) => [
      field,
      fields.includes(field) && isPlain(value) ? value : '[hidden]',
    ]),
  );
}

function isPlain(value: unknown): boolean {
  return value === null || ['string', 'number', 'boolean'].includes(typeof value);
}

/** Keeps numbers, flags and short words such as a status, at any depth; hides what could be a text or a vector. */
function figuresOnly(value: unknown): unknown {
  if (typeof value === 'string') return /^[\w .:-]{1,60}$/.test(value) ? value : '[hidden]';
  if (Array.isArray(value)) return `[list of ${value.length}]`;
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([field, inner]) => [field, figuresOnly(inner)]));
}

function runIdOf(job: QueueJobJson): string | undefined {
  const runId: unknown = job.data?.runId;
  return typeof runId === 'string' && /^[\w-]{1,64}$/.test(runId) ? runId : undefined;
}

/** Reasons of failures and stack traces have no formatter: scrubs all of the board's API, and makes its errors problems. */
function makeAnswersSafe(board: FastifyInstance): void {
  board.addHook('onSend', async (request, reply, payload) => {
    const isJson = String(reply.getHeader('content-type') ?? '').includes('json');
    if (!isJson || typeof payload !== 'string') return payload;
    if (reply.statusCode < 400 || String(reply.getHeader('content-type')).startsWith(PROBLEM_CONTENT_TYPE)) {
      return scrub(payload);
    }
    reply.type(PROBLEM_CONTENT_TYPE);
    return scrub(JSON.stringify(asProblem(reply.statusCode, payload, request.id)));
  });
}

function asProblem(status: number, payload: string, requestId: string): unknown {
  const given = JSON.parse(payload) as { error?: { key?: string } };
  const problem =
    status === 404
      ? new Problem('not_found', 'The board has no such queue or job.')
      : status < 500
        ? new Problem('invalid_request', 'The board does not understand this request.')
        : new Problem('internal', `The board failed. The log has it under the request id ${requestId}.`);
  // The board's own page reads `error`, a key of its dictionary.
  return {
    ...problemBody(problem, requestId),
    status,
    ...(given.error !== undefined && { error: given.error }),
  };
}

function colorOf(environment: string): string {
  return /^prod/i.test(environment) ? '#b91c1c' : '#1d4ed8';
}
