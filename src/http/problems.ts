import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { isServiceGone } from '../core/service-trouble.ts';

/**
 * Every kind of problem that the API answers with. `type` of an answer is `/docs/problems#<kind>`, where this table can
 * be read; a client may rely on it. What is not in the table is a bug and answers `internal`.
 */
export const PROBLEMS = {
  invalid_request: {
    status: 400,
    title: 'The request is not valid',
    because: 'A parameter or a field is wrong or unknown; `errors` names each one and what is allowed.',
  },
  malformed_json: {
    status: 400,
    title: 'The body is not valid JSON',
    because: 'The body says that it is JSON and cannot be read as such.',
  },
  unexpected_body: {
    status: 400,
    title: 'This route takes no body',
    because: 'Something was sent that would have been ignored. Parameters go into the query string.',
  },
  unauthorized: {
    status: 401,
    title: 'The admin secret is missing or wrong',
    because: 'The header `x-admin-secret` must be sent once and hold the secret.',
  },
  read_only: {
    status: 403,
    title: 'This secret may only read',
    because: 'The viewer secret opens GET and HEAD; to change something takes the admin secret.',
  },
  foreign_origin: {
    status: 403,
    title: 'The request comes from another site',
    because: 'A browser may change something here only from a page of this server.',
  },
  not_found: {
    status: 404,
    title: 'Not found',
    because: 'There is no such route, or no such thing behind it.',
  },
  method_not_allowed: {
    status: 405,
    title: 'The method is not allowed here',
    because: 'The path exists, with the methods of the header `Allow`.',
  },
  conflict: {
    status: 409,
    title: 'The request does not fit the present state',
    because: 'Something else has to happen first; `detail` says what.',
  },
  unsettled_run: {
    status: 409,
    title: 'The target already has an unsettled run',
    because: 'A target has one unsettled run at a time; `runId` names it.',
  },
  status_forbids: {
    status: 409,
    title: 'The status of the run does not allow it',
    because: 'A settled run cannot be paused, for example; `detail` names the status.',
  },
  key_reused: {
    status: 422,
    title: 'The Idempotency-Key came before with other parameters',
    because: 'A key stands for one request; `runId` names the run that it started.',
  },
  target_not_ready: {
    status: 422,
    title: 'The target cannot be worked on',
    because:
      'Its table is absent or not as the targets file says; `detail` names what is there and what was expected.',
  },
  key_refused: {
    status: 422,
    title: 'The provider refuses the key',
    because:
      'The key was tried before it would be stored, and nothing was stored. `?check=false` skips the trial.',
  },
  sealing_off: {
    status: 409,
    title: 'Keys cannot be stored',
    because: 'CREDENTIALS_KEY is not set, so that there is nothing to seal keys with.',
  },
  body_too_large: {
    status: 413,
    title: 'The body is too large',
    because: 'No route takes a body of that size.',
  },
  url_too_long: {
    status: 414,
    title: 'The address is too long',
    because: 'A part of the path is longer than any id.',
  },
  unsupported_media_type: {
    status: 415,
    title: 'The body is not of a type that is understood',
    because: 'Bodies are JSON: send `content-type: application/json`.',
  },
  too_many_failures: {
    status: 429,
    title: 'Too many wrong secrets from this address',
    because: 'Failures are slowed down; the right secret is accepted at any time.',
  },
  internal: {
    status: 500,
    title: 'Something went wrong here',
    because: 'A fault of Infill. Its log tells more under the `requestId` of the answer.',
  },
  unavailable: {
    status: 503,
    title: 'A service that this needs is not available',
    because:
      '`detail` names it. Nothing was changed; the request may be repeated after `Retry-After` seconds.',
  },
} as const satisfies Record<string, { status: number; title: string; because: string }>;

export type ProblemKind = keyof typeof PROBLEMS;
export type FieldError = { readonly field: string; readonly message: string };

export type ProblemOptions = {
  readonly errors?: readonly FieldError[];
  /** Further members of the answer, for example `runId`. */
  readonly extras?: Readonly<Record<string, unknown>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly cause?: unknown;
};

/** The answer to a request that cannot be fulfilled; thrown anywhere in a route. */
export class Problem extends Error {
  readonly kind: ProblemKind;
  readonly status: number;
  readonly title: string;
  readonly detail: string;
  readonly errors: readonly FieldError[] | undefined;
  readonly extras: Readonly<Record<string, unknown>>;
  readonly headers: Readonly<Record<string, string>>;

  /** `detail` is a sentence for the person who called; it must hold no secret. */
  constructor(kind: ProblemKind, detail: string, options: ProblemOptions = {}) {
    super(detail, { cause: options.cause });
    this.name = 'Problem';
    this.kind = kind;
    this.status = PROBLEMS[kind].status;
    this.title = PROBLEMS[kind].title;
    this.detail = detail;
    this.errors = options.errors;
    this.extras = options.extras ?? {};
    this.headers = options.headers ?? {};
  }
}

export const PROBLEM_CONTENT_TYPE = 'application/problem+json';

/** An answer of the content type `application/problem+json`, after RFC 9457. */
export const ProblemBody = z
  .looseObject({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    detail: z.string(),
    requestId: z.string().optional(),
    errors: z.array(z.object({ field: z.string(), message: z.string() })).optional(),
  })
  .meta({ description: 'What is wrong, after RFC 9457. `type` leads to an explanation.' });
export type ProblemBody = z.output<typeof ProblemBody>;

export function problemBody(problem: Problem, requestId?: string): ProblemBody {
  return {
    type: `/docs/problems#${problem.kind}`,
    title: problem.title,
    status: problem.status,
    detail: problem.detail,
    ...(requestId !== undefined && { requestId }),
    ...(problem.errors !== undefined && { errors: problem.errors.map((error) => ({ ...error })) }),
    ...problem.extras,
  };
}

/** What Fastify itself refuses, by its code. */
const KIND_BY_FASTIFY_CODE: Readonly<Record<string, readonly [ProblemKind, string]>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: ['body_too_large', 'The body is larger than 64 KiB.'],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: ['invalid_request', 'The body is not as long as content-length says.'],
  FST_ERR_CTP_INVALID_MEDIA_TYPE: ['unsupported_media_type', 'The content-type cannot be read.'],
  FST_ERR_BAD_URL: ['invalid_request', 'The address is not a valid URL: check its percent-encoding.'],
  FST_ERR_MAX_PARAM_LENGTH: ['url_too_long', 'A part of the path is longer than 500 characters.'],
};

/** Names the problem behind an error. What we did not plan for tells the caller nothing but where to look. */
export function toProblem(error: unknown, requestId: string): Problem {
  if (error instanceof Problem) return error;
  const planned = KIND_BY_FASTIFY_CODE[(error as Partial<FastifyError>)?.code ?? ''];
  if (planned !== undefined) return new Problem(planned[0], planned[1], { cause: error });
  if (isServiceGone(error)) {
    const detail =
      'Postgres or Redis went away while the request was at work. Nothing was begun that would not go on.';
    return new Problem('unavailable', detail, { headers: { 'retry-after': '5' }, cause: error });
  }
  return new Problem(
    'internal',
    `Something went wrong here. The log has it under the request id ${requestId}.`,
    {
      cause: error,
    },
  );
}

/** The error handler of every route, and of requests that reach none. Logs only what is our fault. */
export function answerError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const problem = toProblem(error, request.id);
  if (problem.status >= 500) {
    const level = problem.kind === 'unavailable' ? 'warn' : 'error';
    request.log[level]({ err: problem.cause ?? problem, problem: problem.kind }, 'request_failed');
  }
  return reply
    .code(problem.status)
    .headers(problem.headers)
    .type(PROBLEM_CONTENT_TYPE)
    .send(JSON.stringify(problemBody(problem, request.id)));
}
