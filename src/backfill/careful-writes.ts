import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type DatabaseTrouble, databaseTrouble, rowRefusal } from '../core/service-trouble.ts';
import { nextStatementRows, STATEMENT_ROWS_START } from '../core/statement-size.ts';

/** How long an answer that was paid for is kept in memory for a database that is away or busy. */
const PATIENCE_MS = 20_000;
const PAUSE_MS = 200;
/** A row that Postgres does not take, with its words, which may repeat the row. */
export type RowRefusal<Row> = { readonly row: Row; readonly message: string };

/** Targets remembered; each is one number. */
const TARGETS_MAX = 1_000;

/**
 * Writes at a size and a pace that the database bears: what one worker has learned of each target.
 *
 * Each statement's time decides how many rows the next one has. Deadlocks, timeouts and a database that is away are
 * waited out for a while, since the rows in hand have been paid for.
 */
export class CarefulWrites {
  readonly #sizes = new Map<string, number>();
  readonly #now: () => number;
  #busyAtMs = Number.NEGATIVE_INFINITY;

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  /** When a statement of ours last ran into a timeout, in milliseconds of the clock; -Infinity for never. */
  get busyAtMs(): number {
    return this.#busyAtMs;
  }

  /**
   * Hands `rows` to `write` in pieces, one after another. Throws what `write` throws once patience is over.
   *
   * Returns the rows that Postgres refuses, each alone; the others are written.
   *
   * @param write gets the same id each time that it is asked to write a piece.
   */
  async inPieces<Row>(
    target: string,
    rows: readonly Row[],
    write: (piece: readonly Row[], pieceId: string, isLast: boolean) => Promise<void>,
  ): Promise<RowRefusal<Row>[]> {
    const refused: RowRefusal<Row>[] = [];
    for (let start = 0; start < rows.length; ) {
      const piece = rows.slice(start, start + this.#sizeOf(target));
      start += piece.length;
      await this.#halving(target, piece, { isLast: start >= rows.length, refused, write });
    }
    return refused;
  }

  /** Writes a piece, and when Postgres refuses it that may be the fault of one row: halves it until that row stands alone. */
  async #halving<Row>(
    target: string,
    piece: readonly Row[],
    work: {
      readonly isLast: boolean;
      readonly refused: RowRefusal<Row>[];
      readonly write: (piece: readonly Row[], pieceId: string, isLast: boolean) => Promise<void>;
    },
  ): Promise<void> {
    const { isLast, refused, write } = work;
    const pieceId = randomUUID();
    try {
      // Rows that were refused are set aside before anything ends.
      await this.#patiently(target, piece.length, () =>
        write(piece, pieceId, isLast && refused.length === 0),
      );
    } catch (error) {
      const refusal = rowRefusal(error);
      if (refusal === undefined) throw error;
      const [row] = piece;
      if (piece.length === 1 && row !== undefined) {
        refused.push({ row, message: refusal.message });
        return;
      }
      const half = Math.ceil(piece.length / 2);
      await this.#halving(target, piece.slice(0, half), { ...work, isLast: false });
      await this.#halving(target, piece.slice(half), work);
    }
  }

  async #patiently(target: string, rows: number, write: () => Promise<void>): Promise<void> {
    const deadlineMs = this.#now() + PATIENCE_MS;
    for (;;) {
      const startedAtMs = this.#now();
      try {
        await write();
        this.#learn(target, rows, this.#now() - startedAtMs);
        return;
      } catch (error) {
        const trouble = databaseTrouble(error);
        if (trouble === undefined || this.#now() > deadlineMs) throw error;
        this.#note(target, trouble, rows);
        await sleep(PAUSE_MS);
      }
    }
  }

  #note(target: string, trouble: DatabaseTrouble, rows: number): void {
    if (trouble !== 'busy') return;
    this.#busyAtMs = this.#now();
    this.#learn(target, rows, Number.POSITIVE_INFINITY);
  }

  #sizeOf(target: string): number {
    return this.#sizes.get(target) ?? STATEMENT_ROWS_START;
  }

  #learn(target: string, rows: number, tookMs: number): void {
    const size = nextStatementRows(this.#sizeOf(target), rows, tookMs);
    if (this.#sizes.size >= TARGETS_MAX && !this.#sizes.has(target)) this.#sizes.clear();
    this.#sizes.set(target, size);
  }
}
