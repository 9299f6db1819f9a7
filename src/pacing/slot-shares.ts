/**
 * Keeps slow accounts from holding all slots of a worker.
 *
 * A call that has lasted for `LONG_MS` costs a worker next to nothing, so its slot is lent out: as many batches more may run. And
 * accounts with such calls share the slots evenly, so that what is lent out goes to others.
 */

/** A call that lasts this long is a long one. */
export const LONG_MS = 5_000;
/** How long a batch of an account that has its share stays away. Short: a slot of its own may come free at any time. */
const AWAY_MS = 1_000;
/** Weight of the newest call in what is known of an account. */
const NEWEST_WEIGHT = 0.5;
/** Slow accounts that are remembered. An entry is about 200 bytes. */
const KNOWN_MAX = 10_000;

/** A place among the calls of an account. */
export type Slot = {
  /** Says that the request goes out now, or once more. */
  sent(): void;
  /** Gives the place back. Calling it again does nothing. */
  leave(): void;
};

export type SlotSharesOptions = {
  /** Batches that the worker runs at once. */
  readonly slots: number;
  /** Called with the number of slots that are lent out, whenever it changes; at most `slots`. */
  readonly onLent: (slots: number) => void;
};

type Account = { calls: number; long: number; latencyMs: number };

export class SlotShares {
  readonly #options: SlotSharesOptions;
  readonly #accounts = new Map<string, Account>();
  #long = 0;
  #accountsWithLong = 0;

  constructor(options: SlotSharesOptions) {
    this.#options = options;
  }

  /**
   * How long a batch of this account is to stay away; 0 when it may enter.
   *
   * An account whose calls are quick, or unknown, may always enter. A slow one has an even share of the slots, at least one, and
   * none beyond the worker's own.
   */
  waitMsOf(name: string): number {
    const account = this.#accounts.get(name);
    if (account === undefined || (account.long === 0 && account.latencyMs < LONG_MS)) return 0;
    const sharing = this.#accountsWithLong + (account.long === 0 ? 1 : 0);
    const share = Math.max(1, Math.floor(this.#options.slots / sharing));
    const isFull = account.long === 0 && this.#long >= this.#options.slots;
    return account.calls >= share || isFull ? AWAY_MS : 0;
  }

  /** Takes a place, whatever `waitMsOf` says. */
  enter(name: string): Slot {
    const account = this.#accounts.get(name) ?? { calls: 0, long: 0, latencyMs: 0 };
    this.#accounts.set(name, account);
    account.calls++;
    let sentMs: number | undefined;
    let timer: NodeJS.Timeout | undefined;
    let isLong = false;
    let hasLeft = false;
    return {
      sent: () => {
        clearTimeout(timer);
        if (isLong) this.#countLong(account, -1);
        isLong = false;
        sentMs = performance.now();
        timer = setTimeout(() => {
          isLong = true;
          this.#countLong(account, 1);
        }, LONG_MS);
        timer.unref();
      },
      leave: () => {
        if (hasLeft) return;
        hasLeft = true;
        clearTimeout(timer);
        account.calls--;
        if (isLong) this.#countLong(account, -1);
        if (sentMs !== undefined) {
          const lastedMs = performance.now() - sentMs;
          account.latencyMs += (account.latencyMs === 0 ? 1 : NEWEST_WEIGHT) * (lastedMs - account.latencyMs);
        }
        this.#forget(name, account);
      },
    };
  }

  #countLong(account: Account, change: 1 | -1): void {
    const hadLong = account.long > 0;
    account.long += change;
    this.#long += change;
    if (hadLong !== account.long > 0) this.#accountsWithLong += change;
    this.#options.onLent(Math.min(this.#options.slots, this.#long));
  }

  /** What is quick need not be remembered. */
  #forget(name: string, account: Account): void {
    if (account.calls > 0) return;
    if (account.latencyMs < LONG_MS || this.#accounts.size > KNOWN_MAX) this.#accounts.delete(name);
  }
}
