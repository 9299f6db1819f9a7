import type { GateAnswer, HeldSwitch } from '../core/health-gate.ts';
import type { Keyring } from '../credentials/keyring.ts';
import type { CheckedTarget, TargetState } from '../db/catalog.ts';
import type { Db } from '../db/client.ts';
import type { Lane } from '../db/lane.ts';
import type { Embedder } from '../openai/embedder.ts';
import type { Pacer } from '../pacing/pacer.ts';
import type { PaidTexts } from '../pacing/paid-texts.ts';
import type { SlotShares } from '../pacing/slot-shares.ts';
import type { Queues } from '../queue/enqueue.ts';
import type { CarefulWrites } from './careful-writes.ts';
import type { KeyGate } from './key-gate.ts';
import type { LongWaits } from './long-waits.ts';

/** The part of a pino logger that the story uses. Messages are event names, values are fields. */
export type StoryLog = {
  info(fields: object, event: string): void;
  warn(fields: object, event: string): void;
  error(fields: object, event: string): void;
};

/** What planning, admitting and settling need: the database and the queues. */
export type PlanDeps = {
  readonly db: Db;
  readonly queues: Queues;
  readonly inspect: (targetName: string) => Promise<TargetState | undefined>;
  /** Batches that a tenant may have on Redis at the moment. `weight` is that of its credential, where it is known already. */
  readonly windowOf: (tenantId: string, weight?: number) => Promise<number>;
  /** Whether the database and the operator let a tenant admit batches now. */
  readonly gate: (target: string, tenantId: string, switches: readonly HeldSwitch[]) => Promise<GateAnswer>;
  /** Whether the ends of runs are posted to a webhook. */
  readonly announcesEnds: boolean;
  readonly log: StoryLog;
};

/** Counts and cuts as the models do. Slow: only for texts that may be too long. */
export type Tokenizer = {
  /** Stops counting somewhere above `tokensMax`. */
  countTokens(text: string, tokensMax: number): Promise<number> | number;
  /** The longest beginning of `text` of at most `tokensMax` tokens. */
  truncateToTokens(text: string, tokensMax: number): Promise<string> | string;
};

/** What a batch needs besides: keys, the pace and the provider. */
export type BatchDeps = PlanDeps & {
  readonly lane: Lane;
  readonly keyring: Keyring;
  readonly pacer: Pacer;
  readonly embedder: Embedder;
  readonly keyGate: KeyGate;
  readonly longWaits: LongWaits;
  readonly writes: CarefulWrites;
  readonly paidTexts: PaidTexts;
  readonly slotShares: SlotShares;
  readonly tokenizer: Tokenizer;
};

/** The target as a run sees it: to one that goes over unverified rows these are missing, and no index finds them. */
export function targetForRun(
  target: CheckedTarget,
  run: { includeUnverified?: boolean | undefined },
): CheckedTarget {
  return run.includeUnverified && target.stamp !== undefined
    ? { ...target, includesUnverified: true, hasMissingIndex: false }
    : target;
}

/** @throws {Error} when the target is not in the file, absent, or not as described: the run was planned on something else. */
export async function readyTarget(deps: PlanDeps, name: string): Promise<CheckedTarget> {
  const state = await deps.inspect(name);
  if (state?.kind === 'ready') return state.target;
  throw new Error(state === undefined ? `Target "${name}" is not in the targets file.` : state.detail);
}
