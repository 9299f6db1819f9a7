import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyInstance, FastifyReply, FastifyRequest, onRequestAsyncHookHandler } from 'fastify';
import { Problem } from './problems.ts';

export const SECRET_HEADER = 'x-admin-secret';
const SECRET_LENGTH_MIN = 16;

/** Per address. Generous, since everybody behind one proxy shares it. */
export const FAILURES_PER_MINUTE_MAX = 200;
const ACTOR_LENGTH_MAX = 100;

/** What a caller may do: an admin everything, a viewer only read. */
export type Role = 'admin' | 'viewer';

/** The secrets that open the admin API and its pages. */
export type AccessSecrets = {
  /** At least 16 characters, as all of them. */
  readonly adminSecret: string;
  /** The one before, while callers change over to the new one: it may do all that the new one may. */
  readonly adminSecretPrevious?: string | null | undefined;
  /** For people and programs that only look. */
  readonly viewerSecret?: string | null | undefined;
};

declare module 'fastify' {
  interface FastifyRequest {
    /** What the caller may do. Null outside of the admin routes and pages, and before the caller has been recognised. */
    role: Role | null;
  }
}

/** Each secret with its role. The order is fixed, and no secret is in it twice. */
export function rolesOf({ adminSecret, adminSecretPrevious, viewerSecret }: AccessSecrets) {
  const given: readonly [string | null | undefined, Role][] = [
    [adminSecret, 'admin'],
    [adminSecretPrevious, 'admin'],
    [viewerSecret, 'viewer'],
  ];
  return given.flatMap(([secret, role]) => (typeof secret === 'string' ? [{ secret, role }] : []));
}

/**
 * Guards against a secret so short, or so empty, that comparing with it would let everybody in, and against a viewer's
 * secret that is also an admin's.
 */
export function assertSecrets(secrets: AccessSecrets): void {
  for (const { secret, role } of rolesOf(secrets)) {
    if (secret.length < SECRET_LENGTH_MIN) {
      throw new Error(`the ${role} secret must have at least ${SECRET_LENGTH_MIN} characters`);
    }
  }
  const { viewerSecret, adminSecret, adminSecretPrevious } = secrets;
  if (typeof viewerSecret === 'string' && [adminSecret, adminSecretPrevious].includes(viewerSecret)) {
    throw new Error('the viewer secret must not be an admin secret');
  }
}

/** The role that a secret gives; undefined when it is none of ours. Takes as long whichever of them it is. */
export function roleOf(given: string | Buffer | undefined, secrets: AccessSecrets): Role | undefined {
  const roles = rolesOf(secrets).map(({ secret, role }) => (isSecret(given, secret) ? role : undefined));
  return roles.find((role) => role !== undefined);
}

/**
 * Compares in a time that depends on neither value: both are hashed first, so that even their lengths do not show.
 *
 * Nothing (undefined) is never the secret.
 */
export function isSecret(given: string | Buffer | undefined, secret: string): boolean {
  const present = given !== undefined && given.length > 0;
  return timingSafeEqual(sha256(given ?? ''), sha256(secret)) && present;
}

function sha256(value: string | Buffer): Buffer {
  return createHash('sha256').update(value).digest();
}

/** What the request claims is the secret: undefined when the header is absent, empty, or there twice. */
export function secretOf(request: FastifyRequest): Buffer | undefined {
  const value = request.headers[SECRET_HEADER];
  if (typeof value !== 'string' || value === '') return undefined;
  // Node joins repeated headers with a comma; two secrets are a mistake, even when one of them is right.
  const names = request.raw.rawHeaders.filter((_text, index) => index % 2 === 0);
  if (names.filter((name) => name.toLowerCase() === SECRET_HEADER).length > 1) return undefined;
  // Node reads headers as Latin-1; these are the bytes that were sent.
  return Buffer.from(value, 'latin1');
}

/** Counts a failure of the request's address and says with which problem to answer it: 401, or 429 beyond the limit. */
export type CountFailure = (request: FastifyRequest) => Promise<Problem>;

/** The answer to a request that carries no secret at all: nobody has tried one. */
export function noSecret(): Problem {
  return new Problem('unauthorized', `Send the admin secret in the header ${SECRET_HEADER}, once.`, {
    headers: { 'www-authenticate': `AdminSecret header="${SECRET_HEADER}"` },
  });
}

/**
 * Slows down those who try secrets: beyond `perMinuteMax` wrong secrets of an address in a minute, its further ones are
 * answered by 429 with `Retry-After`. A request without any is not counted and always answered by 401.
 *
 * Only failures count and only failures are refused: a right secret passes at any time. Otherwise one misconfigured
 * script could lock everybody out who shares its proxy, just when they need to act. That leaves guessing possible, at
 * the price of a request a guess, which is hopeless against 16 characters. Each process counts for itself.
 *
 * `@fastify/rate-limit` must be registered.
 */
export function createFailureLimit(app: FastifyInstance, perMinuteMax: number): CountFailure {
  const limit = app.createRateLimit({ max: perMinuteMax, timeWindow: 60_000 });

  return async (request) => {
    const counted = await limit(request);
    const exceeded = !counted.isAllowed && counted.isExceeded;
    const last = !counted.isAllowed && !counted.isExceeded && counted.remaining === 0;
    // One line when the limit is reached; a line for each refusal would let a stranger fill the disk.
    request.log[exceeded ? 'debug' : 'warn']({ address: request.ip, limitReached: last }, 'secret_refused');

    if (!exceeded) return noSecret();
    return new Problem(
      'too_many_failures',
      `Wait ${counted.ttlInSeconds} s, then try with the right secret.`,
      {
        headers: { 'retry-after': String(counted.ttlInSeconds) },
      },
    );
  };
}

/**
 * Lets only requests with a secret through, and those with the viewer's only to read. Sets `request.role`.
 *
 * To be added as the first `onRequest` hook of a scope: it then runs for the scope's unknown routes too, so that nobody
 * without the secret learns which routes there are.
 */
export function requireSecret(secrets: AccessSecrets, countFailure: CountFailure): onRequestAsyncHookHandler {
  assertSecrets(secrets);
  return async (request: FastifyRequest, reply: FastifyReply) => {
    reply.header('cache-control', 'no-store');
    const problem = await refusalOf(request, secrets, countFailure);
    if (problem !== undefined) throw problem;
  };
}

/**
 * Why a request may not go on; undefined when its secret allows it, and then `request.role` is set.
 *
 * A secret that is missing, empty or there twice is no attempt.
 */
export async function refusalOf(
  request: FastifyRequest,
  secrets: AccessSecrets,
  countFailure: CountFailure,
): Promise<Problem | undefined> {
  const given = secretOf(request);
  const role = roleOf(given, secrets);
  if (role === undefined) return given === undefined ? noSecret() : countFailure(request);
  request.role = role;
  return refusalOfRole(request, role);
}

/** Why a caller of a role may not do what it asks for; undefined when it may. */
export function refusalOfRole(request: FastifyRequest, role: Role): Problem | undefined {
  if (role === 'admin' || request.method === 'GET' || request.method === 'HEAD') return undefined;
  return new Problem('read_only', 'The viewer secret may only read, by GET and HEAD. Send the admin secret.');
}

/**
 * Who acts, for the audit: the header `x-actor`, else the address of the caller.
 *
 * A claim, not a proof: everybody who has the secret may write any name. Cut to 100 characters; ignored when it holds
 * anything that does not print.
 */
export function actorOf(request: FastifyRequest): string {
  const header = request.headers['x-actor'];
  if (typeof header !== 'string') return request.ip;
  const actor = Buffer.from(header, 'latin1').toString('utf8').trim();
  const printable = /^[\p{L}\p{M}\p{N}\p{P}\p{S}\p{Zs}]+$/u.test(actor) && !actor.includes('\u{fffd}');
  return printable ? [...actor].slice(0, ACTOR_LENGTH_MAX).join('') : request.ip;
}
