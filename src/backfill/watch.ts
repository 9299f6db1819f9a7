/** Looks for missing rows by itself, fills what it finds where the target wants that, and says when a gap came and went. */
import type { Target, Watch } from '../core/target.ts';
import { fruitlessDelayMs, UNINDEXED_EVERY_MS, watchDelayMs } from '../core/watch.ts';
import { recordAudit } from '../db/audit.ts';
import type { CheckedTarget } from '../db/catalog.ts';
import type { Db } from '../db/client.ts';
import { takeLease } from '../db/leases.ts';
import { readUnsettledRunId, reopenWatchRun } from '../db/own-runs.ts';
import { readRunHead } from '../db/run-head.ts';
import { isTargetTaken } from '../db/runs.ts';
import { withStatementTimeout } from '../db/snapshot.ts';
import { countWorkUpTo, hasWork, listTenantsWithGaps } from '../db/target-rows.ts';
import {
  keepWatches,
  listDueWatches,
  listFruitlessTenants,
  postponeWatch,
  recordFruit,
  recordLook,
  rememberRun,
  type WatchState,
} from '../db/watches.ts';
import { enqueueRun } from '../queue/enqueue.ts';
import type { PlanDeps } from './deps.ts';
import { insertOwnRun } from './start-run.ts';

/** A watcher that dies is followed by another after so long. */
const LEASE_MS = 5_000;
/** Longest that a look for a missing row may take: with the partial index it takes less than a millisecond. */
const LOOK_MS_MAX = 5_000;
/** Tenants that are looked at apart while others are left out. */
const TENANTS_MAX = 1_000;
/** A run of the watch is taken up again for a day; then a new one begins. The list of runs has one a day of each target. */
const RUN_HOURS_MAX = 24;
/** A gap is called filled when no row was missing for so long: while rows arrive all the time it is one gap, not thousands. */
const QUIET_MS = 30_000;
const ACTOR = 'watch';

/** What became of a look: `unsettled` and `failed` mean that it saw nothing. */
export type LookOutcome =
  | 'nothing'
  | 'reported'
  | 'started'
  | 'unsettled'
  | 'unready'
  | 'unindexed'
  | 'failed';
export type Look = { readonly target: string; readonly outcome: LookOutcome };

type Watched = { readonly name: string; readonly watch: Watch };

/** The targets that are watched. */
export function watchedAmong(targets: ReadonlyMap<string, Target>): Watched[] {
  return [...targets.values()].flatMap(({ name, watch }) => (watch === undefined ? [] : [{ name, watch }]));
}

/**
 * Looks at each watched target that is due, in one process at a time. When to look next is in Postgres, so that ticks that
 * nobody was there for are one tick.
 *
 * A target with an unsettled run is left alone. Returns what became of each look.
 */
export async function watchTargets(
  deps: PlanDeps,
  watched: readonly Watched[],
  holder: string,
  { quietMs = QUIET_MS }: { quietMs?: number } = {},
): Promise<Look[]> {
  if (watched.length === 0) return [];
  if (!(await takeLease(deps.db, { name: 'watch', holder, ttlMs: LEASE_MS }))) return [];
  const names = watched.map(({ name }) => name);
  await keepWatches(deps.db, names);
  const looks: Look[] = [];
  for (const state of await listDueWatches(deps.db, names)) {
    const watch = watched.find(({ name }) => name === state.target)?.watch;
    if (watch === undefined) continue;
    const outcome = await lookAt(deps, watch, state, quietMs).catch(
      async (error: unknown): Promise<LookOutcome> => {
        deps.log.warn({ target: state.target, err: error }, 'watch_failed');
        // What failed once, a look through a table without its index for example, is not to be repeated at every tick.
        await postponeWatch(
          deps.db,
          state.target,
          watchDelayMs(watch.everySeconds, { hasIndex: false, isBusy: false }),
        );
        return 'failed';
      },
    );
    looks.push({ target: state.target, outcome });
  }
  return looks;
}

async function lookAt(
  deps: PlanDeps,
  watch: Watch,
  state: WatchState,
  quietMs: number,
): Promise<LookOutcome> {
  const { db } = deps;
  const inspected = await deps.inspect(state.target);
  if (inspected?.kind !== 'ready') {
    await postponeWatch(
      db,
      state.target,
      watchDelayMs(watch.everySeconds, { hasIndex: true, isBusy: false }),
    );
    return 'unready';
  }
  const { target } = inspected;
  const { checkedAgoMs } = state;
  if (!target.hasMissingIndex && checkedAgoMs !== null && checkedAgoMs < UNINDEXED_EVERY_MS) {
    // Only the rows are left alone for so long: an index that is made meanwhile is found at the watch's own beat.
    await postponeWatch(
      db,
      state.target,
      watchDelayMs(watch.everySeconds, { hasIndex: true, isBusy: false }),
    );
    return 'unindexed';
  }
  const next = (isBusy: boolean) =>
    postponeWatch(
      db,
      target.name,
      watchDelayMs(watch.everySeconds, { hasIndex: true, isBusy: isBusy && target.hasMissingIndex }),
    );

  if ((await readUnsettledRunId(db, target.name)) !== undefined) {
    // Its end is not far, as a rule, and rows may have arrived behind its back.
    await next(state.runId !== null);
    return 'unsettled';
  }
  const known = await judgeLastRun(deps, state);
  if (known === 'hold') return 'nothing';

  const leftOut = known.isRetryDue ? [] : known.stuckTenants;
  const found = await withStatementTimeout(db, LOOK_MS_MAX, (tx) => findWork(tx, target, leftOut));
  await tellOfGap(deps, watch, state, { found: found !== null, isPartial: leftOut.length > 0, quietMs });
  if (found === null || !watch.fill) {
    await next(false);
    return found === null ? 'nothing' : 'reported';
  }
  const started = await fill(deps, target, found.tenantIds);
  await next(true);
  return started ? 'started' : 'unsettled';
}

type Known = Pick<WatchState, 'stuckTenants' | 'isRetryDue'>;

/**
 * Sees what became of the run that the watch started last. Tenants that got nothing, since their key is dead for example, are
 * left out for a while, longer each time. A run that failed as a whole, or that somebody cancelled, holds the whole watch.
 */
async function judgeLastRun(deps: PlanDeps, state: WatchState): Promise<Known | 'hold'> {
  if (state.runId === null) return state;
  const { db } = deps;
  const run = await readRunHead(db, state.runId);
  if (run === undefined) {
    await rememberRun(db, state.target, null);
    return state;
  }
  const fruitless = state.fruitless + 1;
  const retryInMs = fruitlessDelayMs(fruitless);
  if (run.status === 'failed' || run.status === 'cancelled') {
    await recordFruit(db, state.target, { fruitless, stuckTenants: [], retryInMs: null });
    await postponeWatch(db, state.target, retryInMs);
    return 'hold';
  }
  const { runId, generation } = run;
  const fresh = await listFruitlessTenants(db, { runId, generation, limit: TENANTS_MAX });
  const wasForAll = run.planTenantIds === null;
  if (wasForAll && fresh.length === 0) {
    await recordFruit(db, state.target, { fruitless: 0, stuckTenants: [], retryInMs: null });
    return { stuckTenants: [], isRetryDue: true };
  }
  if (!wasForAll && fresh.length === 0) {
    await rememberRun(db, state.target, null);
    return state;
  }
  const stuckTenants = [...new Set([...(wasForAll ? [] : state.stuckTenants), ...fresh])].slice(
    0,
    TENANTS_MAX,
  );
  await recordFruit(db, state.target, { fruitless, stuckTenants, retryInMs });
  deps.log.warn({ target: state.target, runId, tenants: stuckTenants.length, retryInMs }, 'watch_backs_off');
  return { stuckTenants, isRetryDue: false };
}

/** Null when nothing is missing; else the tenants to plan, null for all. */
async function findWork(
  tx: Db,
  target: CheckedTarget,
  leftOut: readonly string[],
): Promise<{ tenantIds: string[] | null } | null> {
  if (leftOut.length === 0) return (await hasWork(tx, target)) ? { tenantIds: null } : null;
  const out = new Set(leftOut);
  const page = { after: null, limit: TENANTS_MAX };
  const others = (await listTenantsWithGaps(tx, target, null, page)).filter((tenantId) => !out.has(tenantId));
  const work = await countWorkUpTo(tx, target, others.slice(0, TENANTS_MAX), 1);
  return work.length === 0 ? null : { tenantIds: work.map(({ tenantId }) => tenantId) };
}

/** Starts a run, or takes the watch's run of the day up again. Returns false when somebody else's run was quicker. */
async function fill(deps: PlanDeps, target: CheckedTarget, planTenantIds: string[] | null): Promise<boolean> {
  const { name } = target;
  const run = await deps.db
    .transaction(async (transaction) => {
      const tx = transaction as unknown as Db;
      const reopened = await reopenWatchRun(tx, name, { planTenantIds, hoursMax: RUN_HOURS_MAX });
      const runId =
        reopened?.runId ??
        (await insertOwnRun(tx, { target: name, tenantIds: null }, { actor: ACTOR, origin: 'watch' }));
      if (runId === undefined) return undefined;
      await rememberRun(tx, name, runId);
      return { runId, generation: reopened?.generation ?? 1 };
    })
    .catch((error: unknown) => {
      if (isTargetTaken(error)) return undefined;
      throw error;
    });
  if (run === undefined) return false;
  deps.log.info({ target: name, ...run }, 'watch_fills');
  // When Redis does not take it, the sweep does this again.
  await enqueueRun(deps.queues, run, name);
  return true;
}

/** Records a look, and tells of a gap that came or went. */
async function tellOfGap(
  deps: PlanDeps,
  watch: Watch,
  { target, gapSince, foundAgoMs }: WatchState,
  { found, isPartial, quietMs }: { found: boolean; isPartial: boolean; quietMs: number },
): Promise<void> {
  const isQuiet = foundAgoMs === null || foundAgoMs >= (watch.fill ? quietMs : 0);
  // Of the rows that are left out nothing was seen: they are still missing.
  const hasGap = found || (gapSince !== null && (isPartial || !isQuiet));
  const action =
    gapSince === null && hasGap ? 'gap.found' : gapSince !== null && !hasGap ? 'gap.filled' : null;
  await deps.db.transaction(async (transaction) => {
    const tx = transaction as unknown as Db;
    await recordLook(tx, target, { found, hasGap });
    if (action === null) return;
    const details = action === 'gap.found' ? { fill: watch.fill } : { since: gapSince };
    await recordAudit(tx, { actor: ACTOR, action, subject: target, details, deliver: deps.announcesEnds });
  });
  if (action === 'gap.found') deps.log.warn({ target, fill: watch.fill }, 'gap_found');
  if (action === 'gap.filled') deps.log.info({ target, since: gapSince }, 'gap_filled');
}
