/** Rows whose vectors were paid for and could not be written, each by its own fault or by the table's. */
import { EmbedError, type FailureCode, PROVIDER_MESSAGE_LENGTH_MAX } from '../core/failures.ts';
import type { EmbeddedRow } from '../db/target-writes.ts';
import { hasEmbedded } from '../db/undone-rows.ts';
import type { BatchContext } from './batch-context.ts';
import type { RowRefusal } from './careful-writes.ts';
import type { BatchDeps } from './deps.ts';

export type Unwritten = { readonly row: EmbeddedRow; readonly code: FailureCode; readonly message: string };

/**
 * Says which rows to set aside, out of those that Postgres refused and those that lost their vector again.
 *
 * @param tried rows that were to be written, of which these are a part.
 * @throws {EmbedError} `database_refused` when no row of several was written, nor any before in the run; `write_undone` when none of
 *   several kept its vector. Then the table is to blame and not the rows.
 */
export async function unwrittenRows(
  deps: BatchDeps,
  { target, start }: BatchContext,
  tried: readonly EmbeddedRow[],
  { refused, undone }: { refused: readonly RowRefusal<EmbeddedRow>[]; undone: ReadonlySet<string> },
): Promise<Unwritten[]> {
  if (refused.length === 0 && undone.size === 0) return [];
  if (
    await isTableToBlame(deps, start.run.runId, tried.length, {
      refused: refused.length,
      undone: undone.size,
    })
  ) {
    const [first] = refused;
    throw undone.size > 0
      ? new EmbedError('write_undone', { providerMessage: culprits(target.writeHooks) })
      : new EmbedError('database_refused', { providerMessage: first?.message });
  }
  const texts = new Map(start.rows.map(({ rowId, text }) => [rowId, text]));
  return [
    ...refused.map(({ row, message }) => ({
      row,
      code: 'row_refused' as const,
      message: withoutText(message, texts.get(row.rowId)),
    })),
    ...tried
      .filter(({ rowId }) => undone.has(rowId))
      .map((row) => ({ row, code: 'write_undone' as const, message: culprits(target.writeHooks) })),
  ];
}

/** One row alone says nothing of the others, unless it lost its vector as the first of its run. */
async function isTableToBlame(
  { db }: BatchDeps,
  runId: string,
  tried: number,
  { refused, undone }: { refused: number; undone: number },
): Promise<boolean> {
  if (refused + undone < tried) return false;
  if (undone > 0 && tried > 1) return true;
  if (undone === 0 && tried === 1) return false;
  return !(await hasEmbedded(db, runId));
}

function culprits(hooks: readonly string[]): string {
  return hooks.length === 0
    ? 'Look at the triggers and rules of the tables behind it.'
    : `Look at ${hooks.join(', ')}.`;
}

/** Shorter ones would be found in any sentence. */
const TEXT_MASKED_LENGTH_MIN = 4;

/** A trigger's words may repeat the row. */
function withoutText(message: string, text: string | undefined): string {
  const masked =
    text === undefined || text.length < TEXT_MASKED_LENGTH_MIN ? message : message.replaceAll(text, '***');
  return masked.slice(0, PROVIDER_MESSAGE_LENGTH_MAX);
}
