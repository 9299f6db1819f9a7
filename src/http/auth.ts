import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyInstance, FastifyReply, FastifyRequest, onRequestAsyncHookHandler } from 'fastify';
import { Problem } from './problems.ts';

export const SECRET_HEADER = 'x-admin-secret';
const SECRET_LENGTH_MIN = 16;

/** Per address. Generous, since everybody behind one proxy shares it. */
export const FAILURES_PER_MINUTE_MAX = 200;
const ACTOR_LENGTH_MAX = 100;

/** Guards against a secret so short, or so empty, that comparing with it would let everybody in. */
export function assertAdminSecret(secret: string): void {
  if (secret.length < SECRET_LENGTH_MIN) {
    throw new Error(`the admin secret must have at least ${SECRET_LENGTH_MIN} characters`);
  }
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
 * Lets only requests with the admin secret through.
 *
 * To be added as the first `onRequest` hook of a scope: it then runs for the scope's unknown routes too, so that nobody
 * without the secret learns which routes there are.
 */
export function requireAdminSecret(secret: string, countFailure: CountFailure): onRequestAsyncHookHandler {
  assertAdminSecret(secret);
  return async (request: FastifyRequest, reply: FastifyReply) => {
    reply.header('cache-control', 'no-store');
    const problem = await refusalOf(request, secret, countFailure);
    if (problem !== undefined) throw problem;
  };
}

/** Why a request may not go on; undefined when it has the secret. A secret that is missing, empty or there twice is no attempt. */
export async function refusalOf(
  request: FastifyRequest,
  secret: string,
  countFailure: CountFailure,
): Promise<Problem | undefined> {
  const given = secretOf(request);
  if (isSecret(given, secret)) return undefined;
  return given === undefined ? noSecret() : countFailure(request);
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
