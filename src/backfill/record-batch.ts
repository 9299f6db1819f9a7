import { randomUUID } from 'node:crypto';
import { costUsd } from '../core/cost.ts';
import { EmbedError } from '../core/failures.ts';
import type { UniqueInput } from '../core/packing.ts';
import { modelIdentity } from '../core/target.ts';
import { fitsType } from '../core/vector-wire.ts';
import { type BatchPart, recordPart } from '../db/batch-parts.ts';
import type { ClaimOptions } from '../db/claims.ts';
import type { EmbeddedRow } from '../db/target-writes.ts';
import { enqueueTenants } from '../queue/enqueue.ts';
import { admit, askGate, claimOptionsOf, enqueueRanges, isFull, type Known } from './admit.ts';
import type { BatchContext } from './batch-context.ts';
import { hasCap } from './caps.ts';
import type { BatchDeps } from './deps.ts';
import type { FittedInput } from './fit-inputs.ts';
import { unwrittenRows } from './unwritten-rows.ts';

export type Refused = {
  readonly input: Pick<UniqueInput, 'rowIds' | 'textHash'>;
  readonly code: string;
  readonly message: string | null;
};

const NOTHING: Omit<BatchPart, 'partId' | 'requests'> = {
  rows: [],
  tokens: 0,
  costUsd: null,
  quarantined: [],
  truncated: [],
  end: null,
  claim: null,
  settlesWhole: false,
};

/**
 * Records what becomes of a batch: what each request brought, its end, and the admission of the next batch.
 *
 * The last answer, the end and the next claim are one transaction where nothing speaks against it.
 */
export class BatchRecord {
  readonly #deps: BatchDeps;
  readonly #context: BatchContext;
  readonly #signal: AbortSignal;
  /** Requests sent that no record has yet. */
  #requests = 0;
  #isEnded: boolean;

  constructor(deps: BatchDeps, context: BatchContext, signal: AbortSignal) {
    this.#deps = deps;
    this.#context = context;
    this.#signal = signal;
    this.#isEnded = context.start.isEnded;
  }

  /** Whether the batch has ended, and the next one was admitted with it. */
  get isEnded(): boolean {
    return this.#isEnded;
  }

  noteRequest(): void {
    this.#requests++;
  }

  /**
   * Writes the rows of inputs that have their vectors.
   *
   * @param ends whether the batch ends with them.
   */
  async write(
    part: readonly FittedInput[],
    vectors: readonly (Float32Array | undefined)[],
    { tokens, ends }: { tokens: number; ends: boolean },
  ): Promise<void> {
    const { target } = this.#context;
    // On the way out what was paid for is still written. Without the lock it is not: another worker has the batch.
    if (this.#signal.aborted && !(this.#signal.reason instanceof EmbedError)) this.#signal.throwIfAborted();
    const rows = await this.#fittingRows(part, vectors);
    let unrecorded = {
      tokens,
      costUsd: costUsd(target.model, tokens),
      truncated: part.filter((input) => input.truncated).flatMap((input) => input.rowIds),
    };
    try {
      const undone = new Set<string>();
      const refused = await this.#deps.writes.inPieces(target.name, rows, async (piece, partId, isLast) => {
        const pieceOf = { ...NOTHING, partId, rows: piece, ...unrecorded };
        if (isLast && ends && !target.mayUndo) await this.#end(pieceOf, { failed: [], reason: null });
        else for (const rowId of (await this.#record(pieceOf)).undone) undone.add(rowId);
        unrecorded = { tokens: 0, costUsd: null, truncated: [] };
      });
      // No row was left to write.
      if (unrecorded.tokens > 0) await this.#record({ ...NOTHING, partId: randomUUID(), ...unrecorded });
      unrecorded = { tokens: 0, costUsd: null, truncated: [] };
      const unwritten = await unwrittenRows(this.#deps, this.#context, rows, { refused, undone });
      await this.quarantine(
        unwritten.map(({ row: { rowId, textHash }, code, message }) => ({
          input: { rowIds: [rowId], textHash },
          code,
          message,
        })),
      );
    } catch (error) {
      // What cannot be written was paid for all the same, and counts against the run's caps.
      const { tokens: paid, costUsd: paidUsd } = unrecorded;
      if (paid > 0)
        await this.#record({ ...NOTHING, partId: randomUUID(), tokens: paid, costUsd: paidUsd }).catch(
          () => undefined,
        );
      throw error;
    }
  }

  /** The rows to write. Those whose vector the column cannot hold are set aside. */
  async #fittingRows(
    part: readonly FittedInput[],
    vectors: readonly (Float32Array | undefined)[],
  ): Promise<EmbeddedRow[]> {
    const { vectorType } = this.#context.target;
    const rows: EmbeddedRow[] = [];
    const misfits: Refused[] = [];
    for (const [index, input] of part.entries()) {
      const vector = vectors[index];
      if (vector === undefined)
        throw new Error('an answer that passed its checks has a vector for each input');
      const { textHash, rowIds } = input;
      if (fitsType(vector, vectorType)) rows.push(...rowIds.map((rowId) => ({ rowId, textHash, vector })));
      else misfits.push({ input, code: 'value_out_of_range', message: null });
    }
    await this.quarantine(misfits);
    return rows;
  }

  /** Sets rows aside and counts them. */
  async quarantine(refused: readonly Refused[]): Promise<void> {
    if (refused.length === 0) return;
    const { start, target, batch } = this.#context;
    const quarantined = refused.flatMap(({ input, code, message }) =>
      input.rowIds.map((rowId) => ({
        target: target.name,
        rowId,
        tenantId: batch.tenantId,
        textHash: input.textHash,
        model: modelIdentity(target),
        code,
        message,
        runId: start.run.runId,
      })),
    );
    await this.#record({ ...NOTHING, partId: randomUUID(), quarantined });
  }

  /** Records the requests whose answers brought nothing to write. */
  async flush(): Promise<void> {
    if (this.#requests > 0) await this.#record({ ...NOTHING, partId: randomUUID() });
  }

  /** Ends the batch with the rows that were given up, and admits the next. Does nothing when it has ended with its last answer. */
  async end({ failed, reason }: NonNullable<BatchPart['end']>): Promise<void> {
    if (!this.#isEnded) await this.#end({ ...NOTHING, partId: randomUUID() }, { failed, reason });
  }

  /** Does again what follows the end of a batch: the process that ended it may have died before. */
  async goOn(): Promise<void> {
    const { batch } = this.#context;
    if (batch.isWhole) await this.#end({ ...NOTHING, partId: randomUUID() }, { failed: [], reason: null });
    else await this.#admitMore();
  }

  async #record(part: Omit<BatchPart, 'requests'>) {
    const { target, batch, start } = this.#context;
    const requests = this.#requests;
    const context = { target, batch, dryRun: start.run.dryRun };
    const recorded = await recordPart(this.#deps.lane, context, { ...part, requests });
    this.#requests -= requests;
    return recorded;
  }

  async #end(part: Omit<BatchPart, 'requests'>, end: NonNullable<BatchPart['end']>): Promise<void> {
    const { batch, start } = this.#context;
    const claim = await this.#claimWithEnd();
    const settlesWhole = batch.isWhole ?? false;
    const { claimed, settledWhole } = await this.#record({ ...part, end, claim, settlesWhole });
    this.#isEnded = true;
    if (settlesWhole) {
      const { runId, generation, tenantId } = batch;
      // Rows are left, or have arrived: its job goes on with them, as with any other tenant's.
      if (!settledWhole) await enqueueTenants(this.#deps.queues, [{ runId, generation, tenantId }]);
      return;
    }
    if (claim === null) return this.#admitMore();
    if (claimed === undefined) return;
    await enqueueRanges(this.#deps, start.run, batch, [claimed]);
    if (!isFull(start.run, claimed, claim)) await this.#admitMore();
  }

  /**
   * How the next range may be claimed in the transaction that ends the batch; null: not there. A run with a cap, or a tenant with a budget, has to see first
   * what this batch has spent, and without its index the table may take so long to look through that the write would be lost.
   */
  async #claimWithEnd(): Promise<ClaimOptions | null> {
    const { start, target, batch } = this.#context;
    if (batch.isWhole || hasCap(start.run) || start.hasBudget || !target.hasMissingIndex) return null;
    const answer = await askGate(this.#deps, start.run, batch, this.#known);
    return answer.kind === 'held' ? null : claimOptionsOf(this.#deps, batch, answer, this.#known);
  }

  async #admitMore(): Promise<void> {
    const { start, target, batch } = this.#context;
    await admit(this.#deps, start.run, batch, target, this.#known);
  }

  get #known(): Known {
    const { switches, holdReason, credential, hasBudget } = this.#context.start;
    return { switches, holdReason, hasBudget, weight: credential?.weight ?? 1 };
  }
}
