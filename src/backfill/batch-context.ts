import type { BatchStart } from '../db/batch-start.ts';
import type { CheckedTarget } from '../db/catalog.ts';
import type { RunBatch } from '../queue/jobs.ts';

export type Attempt = {
  /** From 1. Only failures that may be the work's own fault count. */
  readonly number: number;
  /** Whether the batch gives its rows up if it fails again. */
  readonly isLast: boolean;
};

/** What a batch goes by from its first statement to its last. */
export type BatchContext = {
  readonly start: BatchStart;
  readonly target: CheckedTarget;
  readonly batch: RunBatch;
  readonly attempt: Attempt;
};
