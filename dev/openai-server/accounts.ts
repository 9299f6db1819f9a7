/** Keys, the organisations they belong to, and what each organisation may spend. */
import { createHash } from 'node:crypto';
import {
  admit,
  BURST_SECONDS_DEFAULT,
  type Buckets,
  drain,
  fullBucket,
  type Refusal,
  refill,
} from './limits.ts';
import type { KeyConfig, KeyState, Limits, LimitsConfig } from './settings.ts';

export type Account = {
  readonly key: string;
  readonly organization: string;
  /** Whether the organisation was given, or made up from the key: then a client cannot name a wrong one. */
  readonly named: boolean;
  readonly state: KeyState;
};

/** Buckets of accounts seen longest ago are dropped beyond this: with any key accepted, keys have no end. */
const BUCKETS_MAX = 10_000;

export class Accounts {
  readonly #acceptAnyKey: boolean;
  readonly #defaultLimits: Limits;
  readonly #now: () => number;
  readonly #accounts = new Map<string, Account>();
  readonly #limits = new Map<string, Limits>();
  readonly #buckets = new Map<string, Buckets>();

  constructor(acceptAnyKey: boolean, defaultLimits: Limits, now: () => number) {
    this.#acceptAnyKey = acceptAnyKey;
    this.#defaultLimits = defaultLimits;
    this.#now = now;
  }

  /** Adds a key, or changes what is given of a known one. */
  put({ key, organization, state, ...limits }: KeyConfig): Account {
    const known = this.#accounts.get(key);
    const account: Account = {
      key,
      organization: organization ?? known?.organization ?? organizationOf(key),
      named: organization !== undefined || known?.named === true,
      state: state ?? known?.state ?? 'ok',
    };
    this.#accounts.set(key, account);
    if (Object.keys(limits).length > 0) this.setLimits({ organization: account.organization, ...limits });
    return account;
  }

  /** From now on the key is unknown. */
  remove(key: string): void {
    this.#accounts.delete(key);
  }

  /** Makes a key fail, or work again. Adds an unknown one. */
  setState(key: string, state: KeyState): void {
    this.put({ key, state });
  }

  /**
   * Changes the limits given, of one model or of all; null lifts a limit. What is left in a bucket stays, as far as
   * it fits; a limit where there was none starts with a full one.
   */
  setLimits({ organization, model, ...limits }: LimitsConfig): void {
    const name = model === undefined ? organization : bucketName(organization, model);
    this.#limits.set(name, { ...this.#limits.get(name), ...limits });

    for (const [bucket, before] of this.#buckets) {
      const [owner = '', ofModel = ''] = bucket.split('\n');
      if (owner !== organization || (model ?? ofModel) !== ofModel) continue;
      this.#buckets.set(bucket, keepLevels(before, this.#fullBuckets(organization, ofModel)));
    }
  }

  /** Null for a key that is unknown. */
  find(key: string): Account | null {
    const known = this.#accounts.get(key);
    if (known) return known;
    return this.#acceptAnyKey ? { key, organization: organizationOf(key), named: false, state: 'ok' } : null;
  }

  list(): Account[] {
    return [...this.#accounts.values()];
  }

  /** Takes one request and its tokens from the account's limits, or says why not. */
  spend(
    { organization }: Account,
    model: string,
    tokens: number,
  ): { after: Buckets; refusal: Refusal | null } {
    const outcome = admit(this.buckets(organization, model), tokens, this.#now());
    this.#keep(bucketName(organization, model), outcome.after);
    return outcome;
  }

  /** Counts a request that failed for another reason, as far as the limit reaches. */
  spendFailed({ organization }: Account, model: string): Buckets {
    const { requests, tokens } = this.buckets(organization, model);
    const after = { requests: requests && drain(requests, 1), tokens };
    this.#keep(bucketName(organization, model), after);
    return after;
  }

  /** What the account may spend now. */
  buckets(organization: string, model: string): Buckets {
    const nowMs = this.#now();
    const kept = this.#buckets.get(bucketName(organization, model)) ?? this.#fullBuckets(organization, model);
    return {
      requests: kept.requests && refill(kept.requests, nowMs),
      tokens: kept.tokens && refill(kept.tokens, nowMs),
    };
  }

  #fullBuckets(organization: string, model: string): Buckets {
    const limits = {
      ...this.#defaultLimits,
      ...this.#limits.get(organization),
      ...this.#limits.get(bucketName(organization, model)),
    };
    const burstSeconds = limits.burstSeconds ?? BURST_SECONDS_DEFAULT;
    const full = (perMinute: number | null | undefined) =>
      perMinute == null ? null : fullBucket(perMinute, burstSeconds, this.#now());
    return { requests: full(limits.requestsPerMinute), tokens: full(limits.tokensPerMinute) };
  }

  #keep(name: string, buckets: Buckets): void {
    if (buckets.requests === null && buckets.tokens === null) return;
    this.#buckets.delete(name);
    this.#buckets.set(name, buckets);
    if (this.#buckets.size > BUCKETS_MAX) {
      const [oldest = ''] = this.#buckets.keys();
      this.#buckets.delete(oldest);
    }
  }
}

function keepLevels(before: Buckets, full: Buckets): Buckets {
  const keep = (name: keyof Buckets) => {
    const bucket = full[name];
    const old = before[name];
    if (bucket === null || old === null) return bucket;
    return { ...bucket, level: Math.min(bucket.capacity, refill(old, bucket.atMs).level) };
  };
  return { requests: keep('requests'), tokens: keep('tokens') };
}

function bucketName(organization: string, model: string): string {
  return `${organization}\n${model}`;
}

/** The organisation of a key that was given none. */
function organizationOf(key: string): string {
  return `org-${createHash('sha256').update(key).digest('hex').slice(0, 12)}`;
}
