/** Calls the admin API, and says in a sentence why it could not. */
import { CommandError, EXIT, type Io } from './io.ts';

// biome-ignore lint/suspicious/noExplicitAny: the API describes its answers; each command takes what it shows
export type Json = any;
export type Query = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;
export type Call = { readonly query?: Query; readonly body?: unknown };

export type Client = {
  readonly url: string;
  /** @throws {CommandError} for whatever is no success. */
  call(method: string, path: string, call?: Call): Promise<Json>;
  /** All items of a list, page by page, at most `max`. */
  list(path: string, query: Query, max: number): Promise<Json[]>;
};

const URL_DEFAULT = 'http://localhost:3000';
const PREFIX = '/api/v1/admin';
/** Longer than any answer takes; a run is not waited for in one call. */
const ANSWER_MS_MAX = 120_000;
const PAGE = 500;

/** @throws {CommandError} when `INFILL_URL` or the secret is missing or cannot be used. */
export function createClient({ env }: Pick<Io, 'env'>): Client {
  const url = (env['INFILL_URL'] || URL_DEFAULT).replace(/(?<!\/)\/+$/, '');
  if (!/^https?:\/\/./.test(url) || !URL.canParse(url)) {
    throw new CommandError(
      `INFILL_URL is no address of the API: expected something like ${URL_DEFAULT}.`,
      EXIT.wrongUse,
    );
  }
  const secret = env['ADMIN_SECRET'] || env['AUTH_SECRET'];
  if (!secret) {
    throw new CommandError(
      'ADMIN_SECRET is not set: put it into the environment, or into .env here. It is never an argument.',
      EXIT.wrongUse,
    );
  }
  const actor = `infill ${env['USER'] ?? ''}`.trim();

  async function call(method: string, path: string, { query = {}, body }: Call = {}): Promise<Json> {
    const address = new URL(`${url}${PREFIX}${path}`);
    for (const [name, value] of Object.entries(query)) {
      for (const one of Array.isArray(value) ? value : [value]) {
        if (one !== undefined) address.searchParams.append(name, String(one));
      }
    }
    let answer: Response;
    try {
      answer = await fetch(address, {
        method,
        headers: {
          'x-admin-secret': secret ?? '',
          'x-actor': actor,
          ...(body !== undefined && { 'content-type': 'application/json' }),
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        redirect: 'manual',
        signal: AbortSignal.timeout(ANSWER_MS_MAX),
      });
    } catch (error) {
      throw new CommandError(unreachable(url, error));
    }
    const text = await answer.text();
    if (answer.ok) return text === '' ? null : parsed(text, url);
    throw refusal(answer.status, text, url);
  }

  return {
    url,
    call,
    async list(path, query, max) {
      const items: Json[] = [];
      let cursor: string | undefined;
      do {
        const limit = Math.min(PAGE, max - items.length);
        const page = await call('GET', path, { query: { ...query, limit, cursor } });
        items.push(...page.items);
        cursor = page.nextCursor ?? undefined;
      } while (cursor !== undefined && items.length < max);
      return items;
    },
  };
}

function parsed(text: string, url: string): Json {
  try {
    return JSON.parse(text);
  } catch {
    throw new CommandError(`What answers at ${url} is not the API of Infill: check INFILL_URL.`);
  }
}

function unreachable(url: string, error: unknown): string {
  const { cause, name } = error as { cause?: { code?: unknown }; name?: unknown };
  const why = name === 'TimeoutError' ? 'no answer in time' : String(cause?.code ?? 'no connection');
  return `The API at ${url} cannot be reached (${why}): is it running, and is INFILL_URL right?`;
}

function refusal(status: number, text: string, url: string): CommandError {
  let problem: Json = {};
  try {
    problem = JSON.parse(text) ?? {};
  } catch {
    // A proxy's page: the status has to do.
  }
  if (status === 401) return new CommandError(`The API at ${url} refuses the secret: check ADMIN_SECRET.`);
  const detail: unknown = problem.detail ?? problem.title;
  if (typeof detail !== 'string') {
    return new CommandError(`The API at ${url} answered with status ${status}: is INFILL_URL right?`);
  }
  const isWrongUse = status === 400 || status === 404 || status === 422;
  return new CommandError(detail, isWrongUse ? EXIT.wrongUse : EXIT.failed);
}
