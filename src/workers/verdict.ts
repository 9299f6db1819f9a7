/**
 * Says to BullMQ what our verdicts mean. The only file that knows both vocabularies: BullMQ hears about outcomes by
 * exceptions of its own classes, the story speaks of verdicts.
 */
import { DelayedError, type Job, UnrecoverableError, WaitingChildrenError } from 'bullmq';
import { snoozeMs } from '../core/backoff.ts';
import { EmbedError } from '../core/failures.ts';

/** For a snooze that nobody said the length of. */
const SNOOZE_MS_DEFAULT = 2_000;

/** Runs the job again in `inMs` milliseconds, without using up an attempt. Always throws. */
export async function comeAgain(job: Job, token: string, inMs: number): Promise<never> {
  await job.moveToDelayed(Date.now() + inMs, token);
  throw new DelayedError();
}

/** Lets the job wait for its children, if any is not through. Throws then; returns when all have ended. */
export async function waitForChildren(job: Job, token: string): Promise<void> {
  if (await job.moveToWaitingChildren(token)) throw new WaitingChildrenError();
}

/** Shows the job as failed and never runs it again. */
export function failForGood(message: string): never {
  throw new UnrecoverableError(message);
}

/**
 * Acts on what a batch threw. Always throws.
 *
 * - `snooze` comes again at a known time, spread a little, and uses up no attempt.
 * - `stop_run` and `stop_tenant` fail for good.
 * - `retry`, and everything that has no verdict (a bug, a database that is away), is left to BullMQ's attempts.
 */
export async function settleFailure(error: unknown, job: Job, token: string): Promise<never> {
  if (!(error instanceof EmbedError)) throw error;
  switch (error.verdict) {
    case 'snooze':
      return comeAgain(job, token, snoozeMs(error.retryAfterMs ?? SNOOZE_MS_DEFAULT, Math.random()));
    case 'stop_run':
    case 'stop_tenant':
      return failForGood(error.message);
    default:
      throw error;
  }
}
