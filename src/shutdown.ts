import type { EventEmitter } from 'node:events';
import type { Log } from './log.ts';

/** Something that was opened and must be put away again. `close` may wait for work in hand. */
export type Closeable = { readonly name: string; close(): Promise<unknown> };

/** What each resource that is still open may count on, however long those before it hang. */
const RESERVED_MS = 200;

/**
 * Closes everything in the reverse of the order it was opened, within `graceMs` milliseconds.
 *
 * A resource that hangs (a queue whose Redis is down) is left behind when only the time reserved for the others remains.
 * Returns the exit code: 0 when all closed in time, 1 when something threw or hung. Never throws.
 */
export async function closeAll(opened: readonly Closeable[], graceMs: number, log: Log): Promise<0 | 1> {
  const endsAtMs = performance.now() + graceMs;
  const reservedMs = Math.min(RESERVED_MS, graceMs / (2 * Math.max(1, opened.length)));
  let exitCode: 0 | 1 = 0;

  for (const [closedBefore, resource] of opened.toReversed().entries()) {
    const stillOpen = opened.length - closedBefore - 1;
    const leftMs = Math.max(0, endsAtMs - performance.now() - stillOpen * reservedMs);
    try {
      await within(leftMs, resource.close());
      log.info({ resource: resource.name }, 'closed');
    } catch (error) {
      log.error({ resource: resource.name, err: error }, 'close_failed');
      exitCode = 1;
    }
  }
  return exitCode;
}

// Not AbortSignal.timeout: its timer does not keep the process alive, which would then leave with work half put away.
async function within(ms: number, closing: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`did not close within ${Math.round(ms)} ms`)), ms);
  });
  // After a lost race nobody else listens to it, and a late rejection would end the process.
  closing.catch(() => {});
  try {
    await Promise.race([closing, deadline]);
  } finally {
    clearTimeout(timer);
  }
}

export type StopOptions = {
  /** Aborted as soon as a signal arrives, before anything is closed. */
  readonly stopping: AbortController;
  /** In the order opened. Read when the signal arrives, so that it may grow until then. */
  readonly opened: readonly Closeable[];
  readonly graceMs: number;
  readonly log: Log;
  readonly exit?: (code: number) => void;
  readonly signals?: EventEmitter;
};

/**
 * Ends the process in order on SIGTERM or SIGINT.
 *
 * Further signals are noted and change nothing, since npm and a terminal both pass on one Ctrl-C; `graceMs` bounds the
 * wait. Returns a function that takes the handlers away again.
 */
export function onSignals({
  stopping,
  opened,
  graceMs,
  log,
  exit = process.exit,
  signals = process,
}: StopOptions): () => void {
  const stop = async (signal: string) => {
    if (stopping.signal.aborted) {
      log.info({ signal }, 'already_stopping');
      return;
    }
    log.info({ signal, graceMs }, 'stopping');
    stopping.abort();
    exit(await closeAll(opened, graceMs, log));
  };
  signals.on('SIGTERM', stop);
  signals.on('SIGINT', stop);

  return () => {
    signals.off('SIGTERM', stop);
    signals.off('SIGINT', stop);
  };
}
