import { createHmac, randomBytes, scrypt, timingSafeEqual } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type AccessSecrets, isSecret, type Role, rolesOf } from './auth.ts';
import { homeOf } from './home.ts';

const COOKIE = 'infill_session';
const SESSION_MS = 8 * 60 * 60 * 1_000;
/** 16 MiB and some 40 ms a guess: who has a cookie and wants the secret behind it tries 25 a second and core. */
const SCRYPT = { N: 2 ** 14, r: 8, p: 1, maxmem: 64 * 1024 * 1024 };

/** Remembers which sessions were logged out until they would have ended by themselves. */
export type EndedSessions = {
  end(id: string, forMs: number): Promise<void>;
  has(id: string): Promise<boolean>;
};

/** Remembers them in this process only. */
export function endedInMemory(): EndedSessions {
  const ended = new Map<string, NodeJS.Timeout>();
  return {
    end: async (id, forMs) => {
      clearTimeout(ended.get(id));
      ended.set(id, setTimeout(() => ended.delete(id), forMs).unref());
    },
    has: async (id) => ended.has(id),
  };
}

type Signer = { readonly secret: string; readonly role: Role; key?: Promise<Buffer> };

/**
 * Sessions of people who logged in to the pages under `/admin`.
 *
 * A session is its cookie: the time it ends and a random id, signed by a key that comes from the secret it was opened
 * with. Its role is that of the secret. So sessions survive a restart and count at every API process, and taking a
 * secret out of the configuration ends its sessions. Logging out ends a session everywhere, copies of its cookie too:
 * its id is remembered until its time is over.
 */
export class Sessions {
  readonly #signers: readonly Signer[];
  readonly #ended: EndedSessions;
  readonly #now: () => number;

  constructor(secrets: AccessSecrets, ended: EndedSessions, now: () => number = Date.now) {
    this.#signers = rolesOf(secrets).map((one) => ({ ...one }));
    this.#ended = ended;
    this.#now = now;
  }

  /** The value of a new session's cookie; undefined when the secret is none of ours. */
  async create(secret: string): Promise<{ value: string; role: Role } | undefined> {
    const [signer] = this.#signers.filter((one) => isSecret(secret, one.secret));
    if (signer === undefined) return undefined;
    const content = `${this.#now() + SESSION_MS}.${randomBytes(16).toString('base64url')}`;
    const signature = sign(content, await keyOf(signer));
    return { value: `${content}.${signature.toString('base64url')}`, role: signer.role };
  }

  /** The role of a cookie's value; undefined when it was not made by `create`, its time is over, or it was logged out. */
  async roleOfValue(value: string | undefined): Promise<Role | undefined> {
    const session = await this.#sessionOf(value);
    if (session === undefined || (await this.#ended.has(session.id))) return undefined;
    return session.role;
  }

  roleOf(request: FastifyRequest): Promise<Role | undefined> {
    return this.roleOfValue(request.cookies[COOKIE]);
  }

  /** Opens a session and returns its role; does nothing when the secret is none of ours. */
  async logIn(secret: string, request: FastifyRequest, reply: FastifyReply): Promise<Role | undefined> {
    const session = await this.create(secret);
    if (session === undefined) return undefined;
    reply.setCookie(COOKIE, session.value, { ...cookieOptions(request), maxAge: SESSION_MS / 1_000 });
    return session.role;
  }

  /** Ends the session of a request, wherever its cookie may be. Safe to repeat, and without a session. */
  async logOut(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    reply.clearCookie(COOKIE, cookieOptions(request));
    const session = await this.#sessionOf(request.cookies[COOKIE]);
    if (session !== undefined) await this.#ended.end(session.id, session.endsAtMs - this.#now());
  }

  async #sessionOf(value: string | undefined) {
    const [endsAt, id, signature, ...more] = value?.split('.') ?? [];
    if (endsAt === undefined || id === undefined || signature === undefined || more.length > 0)
      return undefined;
    const given = Buffer.from(signature, 'base64url');
    const endsAtMs = Number(endsAt);
    for (const signer of this.#signers) {
      const expected = sign(`${endsAt}.${id}`, await keyOf(signer));
      const isSigned = given.length === expected.length && timingSafeEqual(given, expected);
      if (isSigned) return this.#now() < endsAtMs ? { id, endsAtMs, role: signer.role } : undefined;
    }
    return undefined;
  }
}

function sign(content: string, key: Buffer): Buffer {
  return createHmac('sha256', key).update(content).digest();
}

/** Derived once, on another thread, when the first session asks for it. */
function keyOf(signer: Signer): Promise<Buffer> {
  signer.key ??= new Promise((resolve, reject) => {
    scrypt(signer.secret, 'infill admin session v2', 32, SCRYPT, (error, key) =>
      error === null ? resolve(key) : reject(error),
    );
  });
  return signer.key;
}

function cookieOptions(request: FastifyRequest) {
  return { httpOnly: true, sameSite: 'strict', path: homeOf(request), secure: cameByHttps(request) } as const;
}

// The headers are believed whoever sends them: the worst that a false one does is that its sender cannot log in.
function cameByHttps(request: FastifyRequest): boolean {
  const proto = String(request.headers['x-forwarded-proto'] ?? '').split(',', 1)[0];
  const [first = ''] = String(request.headers['forwarded'] ?? '').split(',', 1);
  const forwarded = first.split(';').map((pair) => pair.trim().toLowerCase().replaceAll('"', ''));
  return request.protocol === 'https' || proto?.trim() === 'https' || forwarded.includes('proto=https');
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

const PAGES = /^\/admin(?:$|\/(?:queues|runs|start|adopt|keys|quarantine|switches|audit|health)(?:\/|$))/;

/** Where to go after logging in: a page under `/admin` of this server, else the board. Never another site. */
export function localPage(wanted: unknown): string {
  const fallback = '/admin/queues';
  if (typeof wanted !== 'string' || !URL.canParse(wanted, 'http://local')) return fallback;
  const { origin, pathname, search } = new URL(wanted, 'http://local');
  const ours = origin === 'http://local' && PAGES.test(pathname);
  return ours ? `${pathname}${search}` : fallback;
}
