import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyReply, FastifyRequest, preHandlerAsyncHookHandler } from 'fastify';
import { postgresTrouble } from '../core/postgres-trouble.ts';
import { type Log, scrub } from '../log.ts';
import { RedisTrouble, RedisUnreachable } from '../queue/redis-owner.ts';
import { Problem } from './problems.ts';

export type ReadinessCheck = {
  readonly name: string;
  /** Rejects when the service cannot be used. `signal` aborts at the deadline; it may be ignored. */
  check(signal: AbortSignal): Promise<unknown>;
};

/** `ok`, or what is wrong, in words that hold no address and no secret. */
export type ReadinessReport = Readonly<Record<string, string>>;

/** A check that has not answered by then counts as failed. */
export const CHECK_DEADLINE_MS = 1_000;
/** At the start of a process there is time to find out why. */
const TELL_DEADLINE_MS = 5_000;
/** So that a burst of requests asks each service once. */
export const CHECK_REUSE_MS = 250;
const RETRY_AFTER_SECONDS = 5;

declare module 'fastify' {
  interface FastifyInstance {
    readiness: Readiness;
  }
}

/** Knows whether the services of this process answer. */
export class Readiness {
  readonly #checks: ReadonlyMap<string, ReadinessCheck>;
  readonly #now: () => number;
  readonly #recent = new Map<string, { readonly outcome: Promise<string>; readonly validUntilMs: number }>();

  constructor(checks: readonly ReadinessCheck[], now: () => number = Date.now) {
    this.#checks = new Map(checks.map((check) => [check.name, check]));
    this.#now = now;
  }

  get names(): string[] {
    return [...this.#checks.keys()];
  }

  /**
   * Asks the named services, all at once, and answers within `CHECK_DEADLINE_MS`. Never rejects because of a service.
   *
   * @throws {Error} when a name has no check.
   */
  async report(names: readonly string[] = this.names): Promise<ReadinessReport> {
    return reportOf(names, (name) => this.#outcome(name));
  }

  /** As `report`, but asks anew, whoever has asked a moment ago, and waits for at most `deadlineMs`. */
  async reportAnew(names: readonly string[], deadlineMs: number): Promise<ReadinessReport> {
    return reportOf(names, (name) => ask(this.#checkOf(name), deadlineMs));
  }

  #checkOf(name: string): ReadinessCheck {
    const check = this.#checks.get(name);
    if (check === undefined) throw new Error(`there is no readiness check named ${name}`);
    return check;
  }

  /** Asks every service once, with more patience, and says in one line of the log what is wrong with each that cannot be used. */
  async tell(log: Pick<Log, 'warn'>): Promise<void> {
    await Promise.all(
      [...this.#checks.values()].map(async (check) => {
        const trouble = await ask(check, TELL_DEADLINE_MS);
        if (trouble !== 'ok') log.warn({ service: check.name, trouble }, 'service_not_usable');
      }),
    );
  }

  #outcome(name: string): Promise<string> {
    const check = this.#checkOf(name);
    const recent = this.#recent.get(name);
    if (recent !== undefined && this.#now() < recent.validUntilMs) return recent.outcome;

    // While a check is under way others join it; the time to reuse its answer counts from the answer.
    const outcome = ask(check, CHECK_DEADLINE_MS);
    this.#recent.set(name, { outcome, validUntilMs: Number.POSITIVE_INFINITY });
    void outcome.then(() => this.#recent.set(name, { outcome, validUntilMs: this.#now() + CHECK_REUSE_MS }));
    return outcome;
  }
}

async function reportOf(
  names: readonly string[],
  ask: (name: string) => Promise<string>,
): Promise<ReadinessReport> {
  return Object.fromEntries(await Promise.all(names.map(async (name) => [name, await ask(name)])));
}

async function ask(check: ReadinessCheck, deadlineMs: number): Promise<string> {
  const deadline = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(() => {
      resolve(`unreachable: no answer within ${deadlineMs} ms`);
      deadline.abort();
    }, deadlineMs);
  });
  const answer = (async () => check.check(deadline.signal))().then(
    () => 'ok',
    (error: unknown) => troubleOf(error, check.name),
  );
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** undefined_table, invalid_schema_name: Postgres answers and the tables of Infill are not there. */
const NOT_MIGRATED_CODES: ReadonlySet<unknown> = new Set(['42P01', '3F000']);

function troubleOf(error: unknown, service: string): string {
  const postgres = service === 'postgres' ? postgresTrouble(error) : undefined;
  for (let at = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    if (at instanceof RedisUnreachable) return `unreachable: ${at.message}`;
    if (at instanceof RedisTrouble) return `not usable: ${at.message}`;
    if (NOT_MIGRATED_CODES.has((at as { code?: unknown }).code)) return 'not migrated: run `npm run migrate`';
    if (postgres !== undefined) return `unreachable: ${postgres}`;
    const isWrapping = 'query' in at && 'params' in at;
    if (!isWrapping) return `unreachable: ${reasonOf(at)}`;
  }
  return `unreachable: ${reasonOf(error)}`;
}

/** The code of an error where it has one: a message may hold an address, and this is shown to everybody. */
function reasonOf(error: unknown): string {
  const { code, message } = error as { code?: unknown; message?: unknown };
  if (typeof code === 'string' && code !== '') return code;
  return scrub(String(message ?? error)).slice(0, 100);
}

/** Pause before each look; with the two parts of the look and the answer it is within 2 s. */
const LOOK_AGAIN_MS = 400;
/** A service that has not answered for so long is asked a second time, and has as long again for either answer. */
const SECOND_LOOK_AFTER_MS = CHECK_DEADLINE_MS / 2;

/**
 * A preHandler for routes that cannot do their work without these services: answers 503 within `CHECK_DEADLINE_MS` and
 * names what is missing, before the route has changed anything.
 *
 * Looks again while the route is at work: a service that falls silent then would let the caller wait for ever. It counts as
 * gone after two questions in a row, since one slow answer would deny a run that has started.
 */
export function requireServices(names: readonly string[]): preHandlerAsyncHookHandler {
  return async (request: FastifyRequest, reply: FastifyReply) => {
    const { readiness } = request.server;
    const missing = problemIn(await readiness.report(names), 'Nothing was changed.');
    if (missing !== undefined) throw missing;

    let timer = setTimeout(look, LOOK_AGAIN_MS);
    reply.raw.once('close', () => clearTimeout(timer));

    async function look(): Promise<void> {
      const gone = await findGone(readiness, names);
      if (reply.sent || reply.raw.destroyed) return;
      if (gone !== undefined) reply.send(gone);
      else timer = setTimeout(look, LOOK_AGAIN_MS);
    }
  };
}

async function findGone(readiness: Readiness, names: readonly string[]): Promise<Problem | undefined> {
  const after = 'It went away while the request was at work: look at what is there before you repeat it.';
  const first = readiness.report(names);
  const early = await Promise.race([first, sleep(SECOND_LOOK_AFTER_MS, undefined, { ref: false })]);
  if (early !== undefined && problemIn(early, after) === undefined) return undefined;

  const second = problemIn(await readiness.reportAnew(names, SECOND_LOOK_AFTER_MS), after);
  return second === undefined ? undefined : problemIn(await first, after);
}

function problemIn(report: ReadinessReport, advice: string): Problem | undefined {
  const missing = Object.entries(report).filter(([, outcome]) => outcome !== 'ok');
  if (missing.length === 0) return undefined;

  const detail = missing.map(([name, outcome]) => `${name} is ${outcome}`).join('; ');
  return new Problem('unavailable', `${detail}. ${advice}`, {
    headers: { 'retry-after': String(RETRY_AFTER_SECONDS) },
    extras: { checks: report },
  });
}
