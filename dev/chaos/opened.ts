/** What ends everything that was started, in reverse order; and at once, when there is no time. */
export class Opened {
  readonly #closers: (() => Promise<unknown>)[] = [];
  readonly #killers: (() => void)[] = [];

  /** @param killNow ends a process at once; it may be called when that has ended before. */
  add(close: () => Promise<unknown>, killNow?: () => void): void {
    this.#closers.push(close);
    if (killNow !== undefined) this.#killers.push(killNow);
  }

  async close(): Promise<void> {
    for (let close = this.#closers.pop(); close !== undefined; close = this.#closers.pop()) {
      // One that does not close must not keep the others open.
      await close().catch((error: Error) => console.error(`chaos: could not be closed: ${error.message}`));
    }
  }

  /** Ends every process, also one that was started again after it had been closed. Safe in a handler of `exit`. */
  killAll(): void {
    for (const kill of this.#killers) kill();
  }
}
