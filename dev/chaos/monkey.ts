/** Carries the storm out: each trouble strikes at its time, lasts as long as it is meant to, and is mended again. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ACTIONS, type Begun } from './actions.ts';
import type { Trouble, TroubleKind } from './schedule.ts';
import type { World } from './world.ts';

/** A trouble as it came about. */
export type Strike = {
  readonly kind: TroubleKind;
  readonly what: string;
  readonly fromMs: number;
  /** When all was mended; Infinity while it lasts. */
  toMs: number;
};

export type Monkey = {
  readonly strikes: readonly Strike[];
  /** Resolves when every trouble of the storm has struck and is mended; sooner when `signal` aborts, with troubles left. */
  run(storm: readonly Trouble[], signal: AbortSignal): Promise<void>;
};

export function createMonkey(world: World, tell: (line: string) => void): Monkey {
  const strikes: Strike[] = [];

  const strike = async (trouble: Trouble): Promise<void> => {
    const fromMs = Date.now();
    const mark = trouble.kind;
    if (TAKES_AWAY.has(mark)) world.missing.add(mark);
    let begun: Begun;
    const noted: Strike = { kind: trouble.kind, what: '', fromMs, toMs: Number.POSITIVE_INFINITY };
    strikes.push(noted);
    try {
      begun = await ACTIONS[trouble.kind](world, trouble);
      if (begun !== undefined) {
        tell(`${trouble.kind}: ${begun.what}${trouble.forMs > 0 ? ` for ${trouble.forMs} ms` : ''}`);
        if (begun.mend !== undefined) await sleep(trouble.forMs);
      }
    } catch (error) {
      // A statement of the monkey's own may lose against the troubles that it made itself.
      tell(`${trouble.kind} did not strike: ${(error as Error).message}`);
    } finally {
      await begun?.mend?.();
      world.missing.delete(mark);
      if (begun === undefined) strikes.splice(strikes.indexOf(noted), 1);
      else Object.assign(noted, { what: begun.what, toMs: Date.now() });
    }
  };

  return {
    strikes,
    async run(storm, signal) {
      const beganAtMs = Date.now();
      const underWay: Promise<void>[] = [];
      for (const trouble of storm) {
        const waitMs = beganAtMs + trouble.atMs - Date.now();
        if (waitMs > 0) await sleep(waitMs, undefined, { signal }).catch(() => undefined);
        if (signal.aborted) break;
        underWay.push(strike(trouble));
      }
      const ends = await Promise.allSettled(underWay);
      const failed = ends.find((end) => end.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
    },
  };
}

/** Troubles while which nobody can be expected to get on. */
const TAKES_AWAY: ReadonlySet<TroubleKind> = new Set<TroubleKind>([
  'redis_killed',
  'postgres_away',
  'postgres_silent',
  'provider_fault',
  'provider_away',
  'key_refused',
  'limits_lowered',
  'switched_off',
]);
