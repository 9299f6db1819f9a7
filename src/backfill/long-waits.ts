/** Longest wait that every batch in doubt sits out: that of an account of one request a minute. */
const SHORT_MS_MAX = 60_000;

/** Who waits, and with which key. */
type Sitter = { readonly keyName: string; readonly waiter: string };

/**
 * Says who of a worker sits a long wait out: of each key one batch, while the others of that key keep away.
 *
 * The search for who is to blame would never end if it began anew after each long wait. But on a slow account each batch
 * waits for all others, and if each sat that out, one tenant would keep every slot for hours. So one has the account to
 * itself, which is also the soonest way to its end, and the other tenants do without one slot.
 */
export class LongWaits {
  readonly #waiters = new Map<string, string>();

  /** Whether the wait is sat out. With a long one the key is taken, until `leave`. */
  sitsOut({ keyName, waiter }: Sitter, waitMs: number): boolean {
    if (waitMs <= SHORT_MS_MAX) return true;
    if (!this.#waiters.has(keyName)) this.#waiters.set(keyName, waiter);
    return this.#waiters.get(keyName) === waiter;
  }

  /** Whether somebody else sits out long waits with the key. */
  isTaken({ keyName, waiter }: Sitter): boolean {
    return (this.#waiters.get(keyName) ?? waiter) !== waiter;
  }

  /** Does nothing for who has not taken the key: fit for `finally`. */
  leave({ keyName, waiter }: Sitter): void {
    if (this.#waiters.get(keyName) === waiter) this.#waiters.delete(keyName);
  }
}
