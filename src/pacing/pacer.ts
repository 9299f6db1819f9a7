/** Lets requests through just under every limit of the accounts they belong to: the caller of `pace.lua`. */
import { readFileSync } from 'node:fs';
import type { Redis } from 'ioredis';
import type { Start } from '../core/account.ts';
import type { Credential } from '../core/credential.ts';
import { type FixedRates, fixedRates } from '../core/fixed-limits.ts';
import { spreadMs, type Taken } from '../core/pacing.ts';
import { type PacingRules, pacingRules } from '../core/pacing-rules.ts';
import type { ProviderLimits } from '../core/provider-limits.ts';
import { KEY_PREFIX_DEFAULT } from '../core/redis-address.ts';
import type { Stated, WaitReason } from '../core/reservation.ts';
import { type Holder, holderKeyOf } from './account-key.ts';
import {
  type AccountStatus,
  type Look,
  type RequestMax,
  requestMaxFrom,
  statusFrom,
} from './account-status.ts';
import { createOrganizations } from './organizations.ts';
import { createScript } from './script.ts';

/** A place taken in every bucket of an account. Settle, refuse, fail or release it; the first of them counts. */
export type Reservation = {
  readonly go: true;
  /** Send this much later, not now. At most a second. */
  readonly waitMs: number;
  readonly taken: Taken;
  readonly model: string;
  readonly holder: Holder;
  readonly account: string;
  readonly fixed: FixedRates | null;
};

/** Ask again after `waitMs`; or, when `because` is `probe`, send one neutral word then, and report it by `probed`. */
export type Wait = { readonly go: false; readonly waitMs: number; readonly because: WaitReason };

export type RequestSize = {
  readonly inputs: number;
  /** UTF-8 bytes of all inputs. */
  readonly bytes: number;
  /**
   * Who asks: the same words each time the same work asks again, for example its job's id. Keeps its place among those
   * who wait. Without it a caller stands behind everybody each time.
   */
  readonly waiter?: string;
};

export type PacerOptions = {
  /** What all keys begin with. */
  readonly keyPrefix?: string;
  readonly rules?: PacingRules;
  /** In [0, 1). Spreads waits; a test may fix it. */
  readonly random?: () => number;
  /** For tests: a Redis key that holds the time in milliseconds, instead of Redis's own clock. */
  readonly clockKey?: string;
};

/** Every method rejects when Redis is not there. None ever puts a key or a text into Redis. */
export type Pacer = {
  /** Takes one request and its estimated tokens from every bucket or from none. */
  reserve(credential: Credential, model: string, size: RequestSize): Promise<Reservation | Wait>;
  /** Gives up the waiter's place in the line, if it has one: those behind it do not wait for a turn that nobody takes. */
  left(credential: Credential, model: string, size: RequestSize & { readonly waiter: string }): Promise<void>;
  /**
   * Reports an answer of any kind that shows the provider at work (a 400 too): corrects the estimate, learns the limits,
   * closes the breaker. `tokens` is the answer's usage, null when it told none: then the estimate stands.
   */
  settled(reservation: Reservation, answer: AnswerHeard): Promise<void>;
  /** Reports a 429. `retryAfterMs` is the longest wait that the answer asked for, null when it asked for none (1 s then). */
  refused(reservation: Reservation, refusal: Refusal): Promise<void>;
  /**
   * Reports a 5xx, a timeout, a broken connection or an answer that is none. One caller at a time is told to `probe`: to
   * send one neutral word, after `waitMs`, to learn whether the provider or the work is at fault, and to report it by `probed`.
   */
  failed(reservation: Reservation): Promise<{ next: 'probe' | 'wait'; waitMs: number }>;
  /** Reports whether a probe was answered. `waitMs` is 0 when it was. */
  probed(credential: Credential, model: string, ok: boolean): Promise<{ waitMs: number }>;
  /** Gives back a place that was not used. Does nothing once the reservation was reported otherwise: fit for `finally`. */
  released(reservation: Reservation): Promise<void>;
  /** The largest request that passes without draining the account; pack to it before reserving. */
  requestMax(credential: Credential, model: string): Promise<RequestMax>;
  /** What is known of the account, for people to look at. Changes nothing, and needs no key. */
  stateOf(holder: Holder, model: string): Promise<AccountStatus>;
};

export type AnswerHeard = {
  readonly tokens: number | null;
  readonly limits: ProviderLimits;
  /** As the answer's header reports it; null when it does not. */
  readonly organization: string | null;
};
export type Refusal = { readonly retryAfterMs: number | null; readonly limits: ProviderLimits };

const RETRY_AFTER_MS_DEFAULT = 1_000;
const pace = createScript(readFileSync(new URL('./pace.lua', import.meta.url), 'utf8'));

export function createPacer(redis: Redis, options: PacerOptions = {}): Pacer {
  const { keyPrefix = KEY_PREFIX_DEFAULT, rules = pacingRules(), random = Math.random, clockKey } = options;
  const run = createCalls(redis, keyPrefix, rules, clockKey);
  const { accountOf, learn } = createOrganizations(redis, keyPrefix);
  const reported = new WeakSet<Reservation>();

  /** False when the reservation was reported before. */
  function reportOnce(reservation: Reservation): boolean {
    if (reported.has(reservation)) return false;
    reported.add(reservation);
    return true;
  }

  return {
    async reserve(credential, model, size) {
      const holder = holderOf(credential);
      const fixed = fixedRates(credential);
      const account = await accountOf(holder, model);
      const answer = await run<Granted | Wait>(account, holder, {
        op: 'reserve',
        ...size,
        fixed,
        stated: statedBy(credential),
      });
      if (answer.go) return { ...answer, model, holder, account, fixed };
      // Those in the line have a time each; all others were told the same one.
      const placed = PLACED.includes(answer.because);
      if (answer.because === 'probe' || (placed && size.waiter !== undefined)) return answer;
      return { ...answer, waitMs: spreadMs(answer.waitMs, random()) };
    },
    async left(credential, model, size) {
      const holder = holderOf(credential);
      const fixed = fixedRates(credential);
      await run(await accountOf(holder, model), holder, { op: 'leave', ...size, fixed });
    },
    async settled(reservation, { tokens, limits, organization }) {
      if (!reportOnce(reservation)) return;
      const { account, holder, model, taken, fixed } = reservation;
      const answer = { op: 'settle', taken, tokens, limits };
      await run(account, holder, { ...answer, fixed });
      if (organization === null) return;
      await learn(holder, organization);
      const shared = await accountOf(holder, model);
      // The organisation's account learns it too. This reservation took nothing from it, which time 0 says.
      if (shared !== account) await run(shared, holder, { ...answer, taken: { ...taken, takenMs: 0 } });
    },
    async refused(reservation, { retryAfterMs, limits }) {
      if (!reportOnce(reservation)) return;
      const { account, holder, taken, fixed } = reservation;
      const waitMs = Math.ceil(retryAfterMs ?? RETRY_AFTER_MS_DEFAULT);
      await run(account, holder, { op: 'refuse', taken, retryAfterMs: waitMs, limits, fixed });
    },
    async failed(reservation) {
      if (!reportOnce(reservation)) return { next: 'wait', waitMs: rules.retryMs };
      const { account, holder, taken, fixed } = reservation;
      const call = { op: 'fail', taken, fixed };
      const answer = await run<{ next: 'probe' | 'wait'; waitMs: number }>(account, holder, call);
      return answer.next === 'probe' ? answer : { ...answer, waitMs: spreadMs(answer.waitMs, random()) };
    },
    async probed(credential, model, ok) {
      const holder = holderOf(credential);
      const { waitMs } = await run<{ waitMs: number }>(await accountOf(holder, model), holder, {
        op: 'probed',
        ok,
      });
      return { waitMs: waitMs === 0 ? 0 : spreadMs(waitMs, random()) };
    },
    async released(reservation) {
      if (!reportOnce(reservation)) return;
      const { account, holder, taken, fixed } = reservation;
      await run(account, holder, { op: 'release', taken, fixed });
    },
    async requestMax(credential, model) {
      const holder = holderOf(credential);
      const look = await run<Look>(await accountOf(holder, model), holder, { op: 'look' });
      return requestMaxFrom(look, fixedRates(credential), rules);
    },
    async stateOf(given, model) {
      const holder = holderOf(given);
      return statusFrom(await run<Look>(await accountOf(holder, model), holder, { op: 'look' }));
    },
  };
}

type Granted = { readonly go: true; readonly waitMs: number; readonly taken: Taken };
type Call = { readonly op: string; readonly fixed?: FixedRates | null; readonly [argument: string]: unknown };

function createCalls(redis: Redis, keyPrefix: string, rules: PacingRules, clockKey: string | undefined) {
  const rulesJson = JSON.stringify(rules);
  return async function run<T>(account: string, holder: Holder, call: Call): Promise<T> {
    const holderKey = holderKeyOf(holder);
    // Who has limits of its own waits in a line of its own: nobody else must wait for them.
    const line = call.fixed ? `line:${account}:${holderKey}` : `line:${account}`;
    const keys = [`account:${account}`, line, `fixed:${holderKey}`, `flight:${account}`].map(
      (name) => `${keyPrefix}:${name}`,
    );
    if (clockKey !== undefined) keys.push(clockKey);
    const told = { ...call, start: startOf(holder) };
    return JSON.parse(String(await pace(redis, keys, [rulesJson, JSON.stringify(told, withoutNulls)])));
  };
}

/** Waits at whose end a place in the line counts. */
const PLACED: readonly WaitReason[] = ['requests', 'tokens', 'in_flight'];

/** OpenAI's lowest tier is known, and its first answer tells the rest. Of any other provider nothing is known. */
function startOf({ baseUrl }: Holder): Start {
  return URL.canParse(baseUrl) && new URL(baseUrl).hostname === 'api.openai.com' ? 'tier' : 'search';
}

function statedBy({ requestsPerMinute, tokensPerMinute }: Credential): Stated {
  return { requests: requestsPerMinute !== null, tokens: tokensPerMinute !== null };
}

/** Only what tells accounts apart: a reservation must not carry the key about. */
function holderOf({ baseUrl, fingerprint, organization }: Holder): Holder {
  return { baseUrl, fingerprint, organization };
}

/** Lua would take JSON's null for something. */
function withoutNulls(_name: string, value: unknown): unknown {
  return value === null ? undefined : value;
}
