import { describe, expect, test } from 'vitest';
import {
  canMove,
  isSettled,
  originsOf,
  RUN_STATUSES,
  RUN_TRANSITIONS,
  type RunStatus,
  SETTLED_STATUSES,
  UNSETTLED_STATUSES,
} from '../../src/core/run.ts';
import { type RunFacts, runMessage } from '../../src/core/run-message.ts';
import { type EndFacts, runReason, settlementOf } from '../../src/core/settlement.ts';

function reachable(from: RunStatus, without: readonly RunStatus[] = []): Set<RunStatus> {
  const seen = new Set<RunStatus>([from]);
  for (const status of seen)
    for (const next of RUN_TRANSITIONS[status]) if (!without.includes(next)) seen.add(next);
  return seen;
}

describe('the life of a run', () => {
  test('every status is settled or not, and every unsettled one can be settled', () => {
    expect([...UNSETTLED_STATUSES, ...SETTLED_STATUSES].sort()).toEqual(RUN_STATUSES.toSorted());
    for (const status of UNSETTLED_STATUSES)
      expect([...reachable(status)].some(isSettled), status).toBe(true);
  });

  test('every status can be reached from the first', () => {
    expect([...reachable('queued')].sort()).toEqual(RUN_STATUSES.toSorted());
  });

  test('every end leads back to work and nowhere else', () => {
    for (const status of ['succeeded', 'incomplete', 'cancelled', 'failed'] as const)
      expect(RUN_TRANSITIONS[status]).toEqual(['running']);
  });

  test('nothing succeeds that was not running at its end', () => {
    expect(originsOf('succeeded')).toEqual(['running']);
    expect(originsOf('incomplete')).toEqual(['running']);
  });

  test('a cancelled run comes back by nothing but a retry', () => {
    expect(RUN_TRANSITIONS.cancelling).toEqual(['cancelled']);
    expect(originsOf('cancelled')).toEqual(['cancelling']);
  });

  test('every unsettled run can be cancelled, and what is not paused can be paused while it works', () => {
    for (const status of UNSETTLED_STATUSES.filter((each) => each !== 'cancelling'))
      expect(canMove(status, 'cancelling'), status).toBe(true);
    expect(originsOf('pausing')).toEqual(['queued', 'running']);
    expect(originsOf('paused')).toEqual(['pausing']);
  });

  test('no status leads to itself, and the origins are the moves, seen from their end', () => {
    for (const from of RUN_STATUSES) {
      expect(canMove(from, from), from).toBe(false);
      for (const to of RUN_STATUSES)
        expect(originsOf(to).includes(from), `${from} -> ${to}`).toBe(canMove(from, to));
    }
  });
});

const end = (changed: Partial<EndFacts> = {}): EndFacts => ({
  dryRun: false,
  missing: 0,
  quarantined: 0,
  failed: 0,
  quarantinedNow: 0,
  unseen: 0,
  overLimit: false,
  failureCodes: [],
  cap: null,
  ...changed,
});

describe('a part of a run ends', () => {
  test('succeeded only when the recount found nothing', () => {
    expect(settlementOf(end())).toEqual({ status: 'succeeded', reason: null });
  });

  test.each<[string, Partial<EndFacts>]>([
    [
      '2 rows failed (timed_out, provider_failed)',
      { missing: 2, failed: 2, failureCodes: ['timed_out', 'provider_failed'] },
    ],
    ['1 row failed (unknown)', { missing: 1, failed: 1 }],
    ['1 row is quarantined', { quarantined: 1 }],
    ['2 rows are quarantined', { quarantined: 2 }],
    ["3 rows are over the run's limit", { missing: 3, overLimit: true }],
    ['1 row changed or arrived while the run was at work', { missing: 1 }],
    ['max_tokens_reached', { missing: 9, cap: 'max_tokens_reached' }],
    [
      "1 row failed (timed_out); 2 rows are quarantined; 4 rows are over the run's limit",
      { missing: 5, failed: 1, quarantined: 2, overLimit: true, failureCodes: ['timed_out'] },
    ],
  ])('incomplete with a reason for each row that is left: %s', (reason, facts) => {
    expect(settlementOf(end(facts))).toEqual({ status: 'incomplete', reason });
  });

  test('succeeded when a cap was reached by its very last rows', () => {
    const cap = 'max_tokens_reached';
    expect(settlementOf(end({ cap }))).toEqual({ status: 'succeeded', reason: null });
    expect(settlementOf(end({ cap, dryRun: true, missing: 9 }))).toEqual({
      status: 'succeeded',
      reason: null,
    });
    expect(settlementOf(end({ cap, missing: 2, failed: 2 })).reason).toBe('2 rows failed (unknown)');
    expect(settlementOf(end({ cap, dryRun: true, missing: 9, unseen: 4 })).reason).toBe(cap);
  });

  test('succeeded as a dry run although its rows are missing, if each would have been written', () => {
    expect(settlementOf(end({ dryRun: true, missing: 50 }))).toEqual({ status: 'succeeded', reason: null });
    expect(settlementOf(end({ dryRun: true, missing: 50, quarantinedNow: 1 }))).toEqual({
      status: 'incomplete',
      reason: '1 row is quarantined',
    });
    expect(settlementOf(end({ dryRun: true, missing: 50, quarantined: 2, quarantinedNow: 1 })).reason).toBe(
      '3 rows are quarantined',
    );
  });
});

describe('the reason of a run', () => {
  const part = (tenantId: string, reason: string | null = 'r') => ({ tenantId, reason });

  test('names the tenants that fell short, and counts those beyond five', () => {
    expect(
      runReason([part('a', '1 row failed'), part('c', null)], 2, ['2 missing rows have no tenant']),
    ).toBe('a: 1 row failed; c: left early; 2 missing rows have no tenant');
    expect(
      runReason(
        ['a', 'b', 'c', 'd', 'e'].map((id) => part(id)),
        7,
        [],
      ),
    ).toBe('a: r; b: r; c: r; d: r; e: r; and 2 more tenants');
  });
});

const run = (changed: Partial<RunFacts>): RunFacts => ({
  status: 'running',
  reason: null,
  holdReason: null,
  dryRun: false,
  planned: 382,
  embedded: 0,
  failed: 0,
  quarantined: 0,
  ...changed,
});

describe('the message of a run', () => {
  test.each<[string, Partial<RunFacts>]>([
    ['No missing embeddings found.', { status: 'succeeded', planned: 0 }],
    ['No missing embeddings found.', { status: 'succeeded', planned: 0, dryRun: true }],
    ['Successfully backfilled 382 embeddings.', { status: 'succeeded', embedded: 382 }],
    ['Successfully backfilled 1 embedding.', { status: 'succeeded', embedded: 1 }],
    ['Dry run: would backfill 382 embeddings.', { status: 'succeeded', embedded: 382, dryRun: true }],
    ['Queued: a worker plans the run next.', { status: 'queued', planned: null }],
    ['Looking for missing embeddings.', { planned: null }],
    [
      'Dry run: queued, a worker plans it next. The provider is called and tokens are spent; nothing is written.',
      { status: 'queued', planned: null, dryRun: true },
    ],
    [
      'Dry run: looking for missing embeddings. The provider is called and tokens are spent; nothing is written.',
      { planned: null, dryRun: true },
    ],
    ['Backfilling: 40 of 382 embeddings written.', { embedded: 40 }],
    [
      'Dry run: went through 40 of 382 embeddings; nothing is written, tokens are spent.',
      { embedded: 40, dryRun: true },
    ],
    [
      'Backfilled 380 of 382 embeddings. Left: acme: 2 rows failed',
      { status: 'incomplete', embedded: 380, reason: 'acme: 2 rows failed' },
    ],
    [
      'Dry run: would backfill 380 of 382 embeddings. Left: r',
      { status: 'incomplete', embedded: 380, reason: 'r', dryRun: true },
    ],
    // Rows that arrived while the run was at work are embedded without having been planned.
    ['Backfilled 400 of 400 embeddings. Left: r', { status: 'incomplete', embedded: 400, reason: 'r' }],
    ['Failed: the request is wrong', { status: 'failed', reason: 'the request is wrong' }],
    ['Cancelled after 7 embeddings written.', { status: 'cancelled', embedded: 7 }],
    ['Cancelled the dry run after 7 embeddings.', { status: 'cancelled', embedded: 7, dryRun: true }],
    [
      'Backfilling: 40 of 382 embeddings written. On hold: switched off by zoe.',
      { embedded: 40, holdReason: 'switched off by zoe' },
    ],
  ])('is %j', (message, facts) => {
    expect(runMessage(run(facts))).toBe(message);
  });

  test('says something in every status', () => {
    for (const status of RUN_STATUSES) {
      for (const dryRun of [true, false])
        expect(runMessage(run({ status, dryRun, embedded: 5 }))).toMatch(/^[A-Z].*\S$/);
    }
  });
});
