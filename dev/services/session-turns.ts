import { fatalMessage, leavesSessionIdle, message, queryMessage } from './wire-messages.ts';

/** One connected client, as the turns see it. */
export type Client = {
  /** Whole messages that were received and not executed. */
  pending: Buffer[];
  /** Takes an answer. Does nothing once the client has gone. */
  send(answer: Buffer): void;
  /** Ends the connection after what was sent to it. */
  end(): void;
};

/**
 * What ends any state that a client can leave behind: messages without their Sync, a transaction.
 *
 * Both are harmless where there is nothing to end.
 */
const ABANDON = Buffer.concat([message('S'), queryMessage('ROLLBACK')]);

/**
 * Shares one database session between clients, a turn each.
 *
 * A turn lasts from a client's first message until the session is idle again, so that a Parse and its Bind, or the
 * statements of a transaction, are never parted by somebody else's. Between turns the longest waiting client is next.
 */
export class SessionTurns {
  readonly #execute: (messages: Buffer) => Promise<Buffer>;
  readonly #idleInTransactionMs: number;
  readonly #waiting = new Set<Client>();
  #holder: Client | undefined;
  #executing: Client | undefined;
  #idleTimer: NodeJS.Timeout | undefined;

  /**
   * `execute` runs messages in the session and resolves to its answer; if it rejects, so does `submit`.
   * A client that holds the session for `idleInTransactionMs` while others wait, and says nothing, is disconnected.
   */
  constructor(execute: (messages: Buffer) => Promise<Buffer>, idleInTransactionMs: number) {
    this.#execute = execute;
    this.#idleInTransactionMs = idleInTransactionMs;
  }

  /** Executes what is pending of this client when its turn comes. Call it again whenever `pending` has grown. */
  async submit(client: Client): Promise<void> {
    this.#waiting.add(client);
    if (this.#executing === undefined) await this.#takeTurns();
  }

  /** Forgets a client that has gone, and rolls back what it left open. Safe to repeat. */
  async leave(client: Client): Promise<void> {
    client.pending = [];
    this.#waiting.delete(client);
    if (this.#holder !== client && this.#executing !== client) return;
    client.pending = [ABANDON];
    await this.submit(client);
  }

  async #takeTurns(): Promise<void> {
    for (let client = this.#next(); client !== undefined; client = this.#next()) {
      this.#waiting.delete(client);
      this.#stopWatching();
      const messages = Buffer.concat(client.pending);
      client.pending = [];

      this.#executing = client;
      const answer = await this.#execute(messages);
      this.#executing = undefined;

      this.#holder = leavesSessionIdle(answer) ? undefined : client;
      client.send(answer);
    }
    if (this.#holder !== undefined && this.#waiting.size > 0) this.#watch(this.#holder);
  }

  #next(): Client | undefined {
    if (this.#holder !== undefined) return this.#waiting.has(this.#holder) ? this.#holder : undefined;
    const [first] = this.#waiting;
    return first;
  }

  #watch(holder: Client): void {
    this.#idleTimer ??= setTimeout(() => {
      const seconds = this.#idleInTransactionMs / 1_000;
      const text = `held the embedded database for ${seconds} s without a word while others waited`;
      holder.send(fatalMessage('25P03', text));
      holder.end();
    }, this.#idleInTransactionMs);
  }

  #stopWatching(): void {
    clearTimeout(this.#idleTimer);
    this.#idleTimer = undefined;
  }
}
