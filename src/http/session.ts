import { createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';

const COOKIE = 'infill_session';
const SESSION_MS = 8 * 60 * 60 * 1_000;

/**
 * Sessions of people who logged in to the pages under `/admin`.
 *
 * A session is its cookie: the time it ends and a random id, signed. No server keeps a list, so sessions survive a
 * restart and count at every API process, and the key comes from the admin secret, so a new secret ends them all. The
 * price: logging out makes the browser forget the cookie, but a copy of it taken elsewhere stays valid for its 8 hours.
 */
export class Sessions {
  readonly #key: Buffer;
  readonly #now: () => number;

  constructor(adminSecret: string, now: () => number = Date.now) {
    this.#key = Buffer.from(hkdfSync('sha256', adminSecret, '', 'infill admin session v1', 32));
    this.#now = now;
  }

  /** The value of a new session's cookie. */
  create(): string {
    const content = `${this.#now() + SESSION_MS}.${randomBytes(16).toString('base64url')}`;
    return `${content}.${this.#sign(content).toString('base64url')}`;
  }

  /** Whether a cookie's value was made by `create` with this secret and its time is not over. */
  isLive(value: string | undefined): boolean {
    const [endsAtMs, id, signature] = value?.split('.') ?? [];
    if (endsAtMs === undefined || id === undefined || signature === undefined) return false;
    const expected = this.#sign(`${endsAtMs}.${id}`);
    const given = Buffer.from(signature, 'base64url');
    const signed = given.length === expected.length && timingSafeEqual(given, expected);
    return signed && this.#now() < Number(endsAtMs);
  }

  isLoggedIn(request: FastifyRequest): boolean {
    return this.isLive(request.cookies[COOKIE]);
  }

  logIn(request: FastifyRequest, reply: FastifyReply): void {
    reply.setCookie(COOKIE, this.create(), { ...cookieOptions(request), maxAge: SESSION_MS / 1_000 });
  }

  /** Safe to repeat, and without a session. */
  logOut(request: FastifyRequest, reply: FastifyReply): void {
    reply.clearCookie(COOKIE, cookieOptions(request));
  }

  #sign(content: string): Buffer {
    return createHmac('sha256', this.#key).update(content).digest();
  }
}

function cookieOptions(request: FastifyRequest) {
  return { httpOnly: true, sameSite: 'strict', path: '/admin', secure: cameByHttps(request) } as const;
}

// The header is believed whoever sends it: the worst that a false one does is that its sender cannot log in.
function cameByHttps(request: FastifyRequest): boolean {
  const forwarded = String(request.headers['x-forwarded-proto'] ?? '').split(',', 1)[0];
  return request.protocol === 'https' || forwarded?.trim() === 'https';
}

/**
 * Whether a request that changes something was made by one of our own pages, or by something that is no browser.
 *
 * Browsers say so in `Sec-Fetch-Site`, or in `Origin` where the connection is not secure. Only the host is compared,
 * since the scheme changes at a proxy that ends TLS.
 */
export function isFromOwnPage(request: FastifyRequest): boolean {
  const site = request.headers['sec-fetch-site'];
  if (site !== undefined) return site === 'same-origin' || site === 'none';
  const { origin } = request.headers;
  return origin === undefined || (URL.canParse(origin) && new URL(origin).host === request.host);
}

/** Where to go after logging in: a page under `/admin` of this server, else the board. Never another site. */
export function localPage(wanted: unknown): string {
  const fallback = '/admin/queues';
  if (typeof wanted !== 'string' || !URL.canParse(wanted, 'http://local')) return fallback;
  const { origin, pathname, search } = new URL(wanted, 'http://local');
  const ours = origin === 'http://local' && /^\/admin\/(queues|runs)(\/|$)/.test(pathname);
  return ours ? `${pathname}${search}` : fallback;
}
