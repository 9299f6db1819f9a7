/** The parts of the chaos suite that judge: a suite that finds nothing is worth as much as its audit. */
import { describe, expect, test } from 'vitest';
import {
  audit,
  crossedKeys,
  embeddedTwice,
  unsettledRuns,
  wrongCounts,
  wrongRows,
  wrongTerminalEvents,
} from '../../dev/chaos/audit.ts';
import type { BatchFacts, CallFacts, Evidence, RowFacts, RunFacts } from '../../dev/chaos/evidence.ts';
import { judgePayments } from '../../dev/chaos/payments.ts';
import type { TroubleKind } from '../../dev/chaos/schedule.ts';
import { DIMENSIONS, MODEL, textOfRow } from '../../dev/chaos/tables.ts';
import { hashEmbedding } from '../../dev/openai-server/encoders.ts';

const TEXT = '<acme> quokka notes 1 late order';
const RUN: RunFacts = { runId: 'r1', target: 'notes', status: 'succeeded', reason: null, dryRun: false };

function row(facts: Partial<RowFacts> = {}): RowFacts {
  const vector = [...hashEmbedding(TEXT, MODEL, DIMENSIONS)];
  return { target: 'notes', id: '1', tenant: 'acme', text: TEXT, vector, isQuarantined: false, ...facts };
}

function batch(facts: Partial<BatchFacts> = {}): BatchFacts {
  const ids = { embeddedIds: ['1'], supersededIds: [], goneIds: [], quarantinedIds: [], failedIds: [] };
  return {
    runId: 'r1',
    tenantId: 'acme',
    generation: 1,
    sequence: 1,
    requests: 1,
    tokens: 9,
    ...ids,
    ...facts,
  };
}

function call(facts: Partial<CallFacts> = {}): CallFacts {
  const answered = { status: 200, billed: true, fault: null, durationMs: 100 };
  return { call: 1, atMs: 1_000, key: 'sk-acme', texts: [TEXT], ...answered, ...facts };
}

function part(counts: object = {}) {
  const none = { superseded: 0, gone: 0, quarantined: 0, failed: 0 };
  const whole = { embedded: 1, ...none, requests: 1, tokens: 9, admitted: 1, ended: 1 };
  return { runId: 'r1', tenantId: 'acme', status: 'succeeded', generation: 1, ...whole, ...counts };
}

function events(...actions: string[]) {
  return actions.map((action, index) => ({ runId: 'r1', action, atMs: index * 100_000 }));
}

function evidence(facts: Partial<Evidence> = {}): Evidence {
  return {
    rows: [row()],
    runs: [RUN],
    tenants: [part()],
    batches: [batch()],
    events: events('run.started', 'run.succeeded'),
    calls: [call()],
    keysOf: new Map([['acme', ['sk-acme']]]),
    holders: new Map([[TEXT, 1]]),
    edits: new Map(),
    strikes: [],
    ...facts,
  };
}

test('a run that went well has no violation', () => {
  expect(audit(evidence())).toEqual([]);
});

describe('a row is right', () => {
  test.each([
    ['with the vector of its text', row()],
    ['when it is blank and has none', row({ text: '', vector: null })],
    [
      'when its text is refused and it is quarantined',
      row({ text: `${TEXT} wolfsbane`, vector: null, isQuarantined: true }),
    ],
  ])('%s', (_what, facts) => {
    expect(wrongRows({ rows: [facts] })).toEqual([]);
  });

  test.each([
    ['with the vector of another text', row({ text: `${TEXT}!` }), 'not the one of its text'],
    ['with a vector of another length', row({ vector: [1] }), 'not the one of its text'],
    ['without a vector', row({ vector: null }), 'no vector'],
    [
      'when nothing refuses its text and it is quarantined',
      row({ vector: null, isQuarantined: true }),
      'without a cause',
    ],
    ['when it is blank and has a vector', row({ text: '' }), 'is blank'],
  ])('but not %s', (_what, facts, said) => {
    expect(wrongRows({ rows: [facts] })).toEqual([expect.stringContaining(said)]);
  });
});

test('no run and no tenant stays unsettled', () => {
  const runs = [{ ...RUN, status: 'pausing' }];

  expect(unsettledRuns({ runs, tenants: [part({ status: 'running' })] })).toHaveLength(2);
});

describe("a tenant's counts", () => {
  test('add up what its batches of all generations recorded, failures only of the present one', () => {
    const older = batch({ embeddedIds: ['2', '3'], failedIds: ['4'] });
    const present = batch({ generation: 2, failedIds: ['5'] });
    const tenant = part({ generation: 2, embedded: 3, failed: 1, requests: 2, tokens: 18 });

    expect(wrongCounts({ tenants: [tenant], batches: [older, present] })).toEqual([]);
  });

  test.each(['embedded', 'superseded', 'gone', 'quarantined', 'failed', 'requests', 'tokens'])(
    'are wrong when %s differs',
    (name) => {
      const tenants = [part({ [name]: 7 })];

      expect(wrongCounts({ tenants, batches: [batch()] })).toEqual([expect.stringContaining(`7 ${name}`)]);
    },
  );
});

describe('a row is recorded as embedded', () => {
  const twice = [batch(), batch({ generation: 2 })];

  test('once in a run', () => {
    expect(embeddedTwice({ runs: [RUN], batches: twice, edits: new Map() })).toHaveLength(1);
  });

  test('once more for each edit', () => {
    expect(embeddedTwice({ runs: [RUN], batches: twice, edits: new Map([['notes/1', 1]]) })).toEqual([]);
  });
});

describe('keys', () => {
  const keysOf = new Map([
    ['acme', ['sk-acme']],
    ['globex', ['sk-platform']],
  ]);

  test('carry the texts of their own tenant only', () => {
    const calls = [call({ key: 'sk-platform' }), call({ key: null })];

    expect(crossedKeys({ calls, keysOf })).toHaveLength(2);
  });

  test('never carry the texts of two tenants in one call', () => {
    const calls = [call({ texts: [TEXT, '<globex> quokka notes 2'] })];

    expect(crossedKeys({ calls, keysOf })).toContainEqual(expect.stringContaining('mixes'));
  });

  test('may carry the words that probe a provider', () => {
    expect(crossedKeys({ calls: [call({ texts: ['ping'], key: 'sk-platform' })], keysOf })).toEqual([]);
  });
});

describe('terminal events', () => {
  const judge = (status: string, ...actions: string[]) =>
    wrongTerminalEvents({ runs: [{ ...RUN, status }], events: events(...actions) });

  test('are one for each time that a run settled', () => {
    expect(judge('succeeded', 'run.started', 'run.paused', 'run.succeeded')).toEqual([]);
    expect(judge('failed', 'run.started', 'run.incomplete', 'run.retried', 'run.failed')).toEqual([]);
    expect(judge('running', 'run.started', 'run.incomplete', 'run.retried')).toEqual([]);
  });

  test.each([
    ['two without a retry between them', 'incomplete', ['run.started', 'run.failed', 'run.incomplete']],
    ['none', 'succeeded', ['run.started']],
    ['one of another status', 'succeeded', ['run.started', 'run.cancelled']],
    ['a retry before the first', 'succeeded', ['run.started', 'run.retried', 'run.succeeded']],
    ['two starts', 'succeeded', ['run.started', 'run.started', 'run.succeeded']],
  ])('are never %s', (_what, status, actions) => {
    expect(judge(status, ...actions)).toHaveLength(1);
  });
});

describe('a text that is paid for twice', () => {
  const second = call({ call: 2, atMs: 60_000 });
  const strike = (kind: TroubleKind, fromMs: number, toMs = fromMs) => ({ kind, what: '', fromMs, toMs });

  test('is a violation when nothing had struck', () => {
    const { again, unexplained } = judgePayments(evidence({ calls: [call(), second] }));

    expect(again.size).toBe(0);
    expect(unexplained).toEqual([expect.stringContaining('paid 2 times')]);
  });

  test('is explained by what struck while the first answer was in hand, and by nothing later', () => {
    const judge = (atMs: number) =>
      judgePayments(evidence({ calls: [call(), second], strikes: [strike('worker_killed', atMs)] }));

    expect([...judge(1_050).again]).toEqual([['worker_killed', 1]]);
    expect(judge(30_000).unexplained).toHaveLength(1);
  });

  test('is not explained by a trouble that loses no answer', () => {
    const strikes = [strike('api_killed', 1_050), strike('rows_edited', 1_050)];

    expect(judgePayments(evidence({ calls: [call(), second], strikes })).unexplained).toHaveLength(1);
  });

  test.each([
    ['two rows hold it', { holders: new Map([[TEXT, 2]]) }, {}],
    ['the first answer could not be used', {}, { fault: 'nan' }],
    ['the first was refused', {}, { billed: false }],
  ])('is right when %s', (_what, facts, first) => {
    const calls = [call(first), second];

    expect(judgePayments(evidence({ ...facts, calls })).unexplained).toEqual([]);
  });

  test('is right when a dry run paid for it first, and a dry run pays for it once, too', () => {
    const runs = [RUN, { ...RUN, runId: 'r0', dryRun: true }];
    const life = [
      { runId: 'r0', action: 'run.started', atMs: 0 },
      { runId: 'r0', action: 'run.succeeded', atMs: 50_000 },
    ];
    const judge = (calls: CallFacts[]) => judgePayments(evidence({ runs, events: life, calls })).unexplained;

    expect(judge([call(), second])).toEqual([]);
    expect(judge([call(), call({ call: 2, atMs: 20_000 }), second])).toHaveLength(1);
  });
});

test("a row's text is its columns that are not blank, joined by a blank line", () => {
  expect(textOfRow(['one'])).toBe('one');
  expect(textOfRow([' '])).toBe('');
  expect(textOfRow([null, ' '])).toBe('');
  expect(textOfRow(['title', null])).toBe('title');
  expect(textOfRow(['title', 'body'])).toBe('title\n\nbody');
});
