import { EmbedError } from '../core/failures.ts';

type State =
  | { readonly kind: 'tried' }
  | { readonly kind: 'dead'; readonly error: EmbedError }
  | { readonly kind: 'trying'; readonly until: Promise<unknown> };

/** Keys remembered: one entry a key and generation of a run. The oldest is forgotten, and its key simply tried again. */
const KEYS_MAX = 10_000;
/** Tenants remembered whose key was told to be good. The oldest is forgotten, and simply told of again. */
const GOOD_MAX = 10_000;

/**
 * Lets one call go ahead with a key that this worker has not used yet in a run; the others wait for how it ends.
 *
 * A dead key then costs one refused request a worker, and not one for each batch that happens to start at once.
 */
export class KeyGate {
  readonly #states = new Map<string, State>();
  readonly #good = new Set<string>();
  readonly #troubles = new Map<string, { kind: string; rounds: number; sinceMs: number }>();

  /**
   * Calls `send`, alone if it is the first with `key`.
   *
   * @param key names the run's generation and the key's fingerprint, never the key.
   * @param tenantId whose call it is: several tenants may have stored the same key, and each is told of it.
   * @param onGood called after the tenant's first answer, and after the first one that follows `forgetGood`.
   * @throws {EmbedError} the failure that stopped the key before, without calling `send`; else what `send` throws.
   */
  async pass<T>(
    key: string,
    tenantId: string,
    send: () => Promise<T>,
    onGood: () => Promise<void>,
  ): Promise<T> {
    for (let state = this.#states.get(key); state?.kind === 'trying'; state = this.#states.get(key)) {
      await state.until.catch(() => undefined);
    }
    const state = this.#states.get(key);
    if (state?.kind === 'dead') throw new EmbedError(state.error.code, state.error);

    const sent = send();
    if (state === undefined) this.#remember(key, { kind: 'trying', until: sent });
    try {
      const answer = await sent;
      this.#troubles.delete(key);
      // It was on its way as the key died: it says nothing of the key any more.
      if (this.#states.get(key)?.kind === 'dead') return answer;
      this.#remember(key, { kind: 'tried' });
      if (this.#isNews(key, tenantId)) await onGood();
      return answer;
    } catch (error) {
      if (error instanceof EmbedError && error.verdict === 'stop_tenant')
        this.#remember(key, { kind: 'dead', error });
      // An answer of any other kind says nothing of the key: the next call tries it again, alone.
      else if (state === undefined) this.#states.delete(key);
      throw error;
    }
  }

  /** The first call with `key`, while it is under way: who wants to use the key does well to wait for it. */
  trialOf(key: string): Promise<unknown> | undefined {
    const state = this.#states.get(key);
    return state?.kind === 'trying' ? state.until : undefined;
  }

  /**
   * Counts a trouble of a key, and says how often that kind came in a row, and for how long. An answer ends it, and so does a
   * trouble of another kind: what never ends is to be told from what passes.
   */
  noteTrouble(key: string, kind: string): { rounds: number; forMs: number } {
    const before = this.#troubles.get(key);
    const trouble = before?.kind === kind ? before : { kind, rounds: 0, sinceMs: Date.now() };
    trouble.rounds += 1;
    this.#troubles.delete(key);
    this.#troubles.set(key, trouble);
    const oldest = this.#troubles.keys().next();
    if (this.#troubles.size > KEYS_MAX && !oldest.done) this.#troubles.delete(oldest.value);
    return { rounds: trouble.rounds, forMs: Date.now() - trouble.sinceMs };
  }

  /** Lets the tenant's next answer with `key` be told again: something was wrong with the key meanwhile. */
  forgetGood(key: string, tenantId: string): void {
    this.#good.delete(goodName(key, tenantId));
  }

  #isNews(key: string, tenantId: string): boolean {
    const name = goodName(key, tenantId);
    if (this.#good.has(name)) return false;
    this.#good.add(name);
    const oldest = this.#good.values().next();
    if (this.#good.size > GOOD_MAX && !oldest.done) this.#good.delete(oldest.value);
    return true;
  }

  #remember(key: string, state: State): void {
    this.#states.delete(key);
    this.#states.set(key, state);
    const oldest = this.#states.keys().next();
    if (this.#states.size > KEYS_MAX && !oldest.done) this.#states.delete(oldest.value);
  }
}

const goodName = (key: string, tenantId: string) => `${key} ${tenantId}`;
