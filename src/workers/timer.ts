import type { StoryLog } from '../backfill/deps.ts';

/** Calls `work` at once and then every `everyMs`, never twice at a time. `close` waits for a call under way. */
export function startTimer(
  name: string,
  everyMs: number,
  work: () => Promise<unknown>,
  log: StoryLog,
): { close(): Promise<void> } {
  let underWay = Promise.resolve();
  let busy = false;
  const tick = () => {
    if (busy) return;
    busy = true;
    underWay = work()
      .then(
        () => undefined,
        (error: unknown) => log.warn({ err: error, timer: name }, 'timer_failed'),
      )
      .finally(() => {
        busy = false;
      });
  };
  tick();
  const timer = setInterval(tick, everyMs);
  return {
    close: async () => {
      clearInterval(timer);
      await underWay;
    },
  };
}
