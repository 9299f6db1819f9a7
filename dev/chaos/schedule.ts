/** What goes wrong and when: decided by the seed alone, before anything starts. */
import { SeededRandom } from '../sample/random.ts';

/** Milliseconds from and to; a trouble of no duration is over at once. */
type Span = readonly [min: number, max: number];

type TroubleRules = {
  /** How often it is drawn relative to the others. */
  readonly weight: number;
  readonly forMs: Span;
  /** What it needs for itself while it lasts: two troubles of one kind of thing do not overlap. */
  readonly on: 'worker' | 'api' | 'redis' | 'postgres' | 'provider' | 'key' | 'limits' | 'switch' | null;
};

const NONE: Span = [0, 0];

/** Every trouble that the monkey knows. */
export const TROUBLES = {
  // A killed process stays away for so long.
  worker_killed: { weight: 8, forMs: [200, 4_000], on: 'worker' },
  // SIGTERM, as a deploy sends it, and a new one after it.
  worker_replaced: { weight: 4, forMs: [0, 500], on: 'worker' },
  // SIGSTOP for longer than the 10 s that a job's lock lives, then SIGCONT.
  worker_frozen: { weight: 4, forMs: [12_000, 16_000], on: 'worker' },
  api_killed: { weight: 4, forMs: [100, 2_000], on: 'api' },

  redis_killed: { weight: 5, forMs: [200, 5_000], on: 'redis' },
  redis_flushed: { weight: 5, forMs: NONE, on: 'redis' },

  // Every connection is reset; the next attempt gets through.
  postgres_cut: { weight: 3, forMs: NONE, on: 'postgres' },
  // As a restart: connections reset and refused for a while.
  postgres_away: { weight: 3, forMs: [1_000, 8_000], on: 'postgres' },
  // Connections stay, and nothing comes back.
  postgres_silent: { weight: 3, forMs: [1_000, 7_000], on: 'postgres' },
  backends_terminated: { weight: 4, forMs: NONE, on: 'postgres' },

  provider_fault: { weight: 22, forMs: [1_000, 6_000], on: 'provider' },
  provider_away: { weight: 3, forMs: [1_000, 8_000], on: 'provider' },
  key_refused: { weight: 6, forMs: [2_000, 8_000], on: 'key' },
  key_replaced: { weight: 3, forMs: NONE, on: 'key' },
  limits_lowered: { weight: 4, forMs: [4_000, 10_000], on: 'limits' },

  rows_added: { weight: 8, forMs: NONE, on: null },
  rows_edited: { weight: 14, forMs: NONE, on: null },
  rows_deleted: { weight: 6, forMs: NONE, on: null },

  pause: { weight: 7, forMs: NONE, on: null },
  resume: { weight: 7, forMs: NONE, on: null },
  cancel: { weight: 5, forMs: NONE, on: null },
  retry: { weight: 6, forMs: NONE, on: null },
  change: { weight: 6, forMs: NONE, on: null },
  switched_off: { weight: 5, forMs: [500, 5_000], on: 'switch' },
} as const satisfies Record<string, TroubleRules>;

export type TroubleKind = keyof typeof TROUBLES;

export type Trouble = {
  readonly kind: TroubleKind;
  /** From the beginning of the storm. */
  readonly atMs: number;
  readonly forMs: number;
  /** The worker that it strikes, from 0; of no meaning for the other kinds. */
  readonly worker: number;
  /** In [0, 1): chooses among what there is at that time, for example a target, a fault, rows. */
  readonly pick: number;
};

export type StormSize = { readonly durationMs: number; readonly workers: number };

/** Time between two troubles. */
const PAUSE_MS: Span = [300, 2_000];

/** Draws a storm. The same seed and size give the same storm, and a longer storm begins as the shorter one does. */
export function planStorm(seed: number, { durationMs, workers }: StormSize): Trouble[] {
  const random = new SeededRandom(`storm ${seed}`);
  const busyUntilMs = new Map<string, number>();
  const storm: Trouble[] = [];
  for (let atMs = draw(random, PAUSE_MS); atMs < durationMs; atMs += draw(random, PAUSE_MS)) {
    const kind = drawKind(random);
    const { on, forMs } = TROUBLES[kind];
    // Drawn whether used or not, so that what follows does not depend on it.
    const trouble = {
      kind,
      atMs,
      forMs: draw(random, forMs),
      worker: random.integer(0, workers - 1),
      pick: random.next(),
    };
    const thing = on === 'worker' ? `worker ${trouble.worker}` : on;
    if (thing !== null) {
      if ((busyUntilMs.get(thing) ?? 0) > atMs) continue;
      busyUntilMs.set(thing, atMs + trouble.forMs + SETTLE_MS);
    }
    storm.push(trouble);
  }
  return storm;
}

/** A thing that was in trouble has this long to come back before the next one strikes it. */
const SETTLE_MS = 1_500;

function draw(random: SeededRandom, [min, max]: Span): number {
  return random.integer(min, max);
}

const KINDS = Object.keys(TROUBLES) as TroubleKind[];
const WEIGHT_TOTAL = KINDS.reduce((sum, kind) => sum + TROUBLES[kind].weight, 0);

function drawKind(random: SeededRandom): TroubleKind {
  let left = random.next() * WEIGHT_TOTAL;
  for (const kind of KINDS) {
    left -= TROUBLES[kind].weight;
    if (left < 0) return kind;
  }
  return 'worker_killed';
}
