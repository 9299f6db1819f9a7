import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Json, parseVector, type System, startSystem, vectorOf, wrongRows } from '../support/system.ts';

let system: System;

beforeAll(async () => {
  system = await startSystem({ gated: true });
});
afterAll(() => system.close());
beforeEach(async () => {
  await system.sql`TRUNCATE notes, infill.tenant_credentials`;
  system.openai.ledger.reset();
  await system.addRows(
    Array.from({ length: 20 }, (_, index) => ({ tenant: 'acme', text: `note ${index}.` })),
  );
});

/** Runs a backfill in which `change` happens after the provider answered and before the answer arrives. */
async function backfillWhile(change: () => Promise<unknown>): Promise<Json> {
  system.gate.onAnswerTo('note 7.', change);
  return system.backfill('?batchSize=10');
}

async function outcomeOf(run: Json, outcome: string): Promise<string[]> {
  const rows: Json[] = await system.listed(run.runId, 'rows');
  return rows.filter((row) => row.outcome === outcome).map((row) => row.rowId);
}

const idOf = async (text: string) => (await system.rows()).find((row) => row.content === text)?.id ?? 'none';

describe('a row that changes between reading and writing', () => {
  test('keeps no vector of its old text, and is filled by the next pass of the same run', async () => {
    const id = await idOf('note 7.');

    const run = await backfillWhile(
      () => system.sql`UPDATE notes SET content = 'note 7, edited.' WHERE content = 'note 7.'`,
    );

    expect(run).toMatchObject({
      status: 'succeeded',
      rows: { planned: 20, embedded: 20, superseded: 1, gone: 0, failed: 0, remaining: 0 },
    });
    expect(wrongRows(await system.rows())).toEqual([]);
    expect(await outcomeOf(run, 'superseded')).toEqual([id]);
    expect(await outcomeOf(run, 'embedded')).toHaveLength(20);
    // Its neighbours were paid for once.
    expect(system.openai.ledger.billedCountOf('note 6.')).toBe(1);
  });

  test('stays empty when its text became blank: there is nothing to embed', async () => {
    const run = await backfillWhile(
      () => system.sql`UPDATE notes SET content = ' ' WHERE content = 'note 7.'`,
    );

    expect(run).toMatchObject({ status: 'succeeded', rows: { embedded: 19, superseded: 1, remaining: 0 } });
    expect(run.coverage.after).toMatchObject({
      missing: 0,
      quarantined: 0,
      unembeddable: 1,
      embedded: 19,
    });
    expect(wrongRows(await system.rows())).toEqual([]);
  });

  test('keeps the vector that somebody else wrote meanwhile', async () => {
    const theirs = vectorOf('by somebody else');

    const run = await backfillWhile(
      () =>
        system.sql`UPDATE notes SET embedding = ${JSON.stringify(theirs)}::vector WHERE content = 'note 7.'`,
    );

    expect(run).toMatchObject({ status: 'succeeded', rows: { embedded: 19, superseded: 1, remaining: 0 } });
    const row = (await system.rows()).find(({ content }) => content === 'note 7.');
    expect(parseVector(row?.embedding ?? '[]')).toEqual(theirs);
  });

  test('is written when another of its columns changed', async () => {
    await system.sql`ALTER TABLE notes ADD COLUMN IF NOT EXISTS seen_by text`;

    const run = await backfillWhile(() => system.sql`UPDATE notes SET seen_by = 'eve'`);

    expect(run).toMatchObject({ status: 'succeeded', rows: { embedded: 20, superseded: 0 } });
  });
});

test('a row that is deleted meanwhile is gone, and no error', async () => {
  const id = await idOf('note 7.');

  const run = await backfillWhile(() => system.sql`DELETE FROM notes WHERE content = 'note 7.'`);

  expect(run).toMatchObject({
    status: 'succeeded',
    message: 'Successfully backfilled 19 embeddings.',
    rows: { planned: 20, embedded: 19, gone: 1, superseded: 0, failed: 0, remaining: 0 },
  });
  expect(await outcomeOf(run, 'gone')).toEqual([id]);
});

describe('a row that moves to another tenant meanwhile', () => {
  test('keeps no vector that the old tenant paid for, and is sent with the new key by the next run', async () => {
    await system.giveKey('globex', 'sk-key-of-globex-only');

    const run = await backfillWhile(
      () => system.sql`UPDATE notes SET tenant_id = 'globex' WHERE content = 'note 7.'`,
    );

    expect(run).toMatchObject({ status: 'incomplete', rows: { embedded: 19, superseded: 1, remaining: 1 } });
    expect(run.reason).toBe('1 more missing row belongs to a tenant that the run did not plan');
    expect(wrongRows(await system.rows()).map(({ content }) => content)).toEqual(['note 7.']);

    expect(await system.backfill()).toMatchObject({ status: 'succeeded', rows: { embedded: 1 } });
    expect(system.openai.ledger.textsSentWith('sk-key-of-globex-only')).toContain('note 7.');
    expect(wrongRows(await system.rows())).toEqual([]);
  });
});

describe('rows that arrive while a run is at work', () => {
  test('are filled by its next pass', async () => {
    const run = await backfillWhile(() => system.addRows([{ tenant: 'acme', text: 'a late note' }]));

    expect(run).toMatchObject({ status: 'succeeded', rows: { planned: 20, embedded: 21, remaining: 0 } });
    expect(wrongRows(await system.rows())).toEqual([]);
  });

  // Ids that grow are the usual ones; others may fall anywhere.
  test.each([
    ['behind it', -1],
    ['before it', 1_000_000_000],
  ])('do not keep it open for ever: %s, after three passes it says what is left', async (_name, where) => {
    const arrive = (number: number) => system.sql`
      INSERT INTO notes (id, tenant_id, content) OVERRIDING SYSTEM VALUE
      VALUES (${where + Math.sign(where) * number}, 'acme', ${`late ${number}.`})`;
    system.gate.onAnswerTo('note 7.', () => arrive(1));
    system.gate.onAnswerTo('late 1.', () => arrive(2));
    system.gate.onAnswerTo('late 2.', () => arrive(3));

    const run = await system.backfill();

    expect(run).toMatchObject({ status: 'incomplete', rows: { planned: 20, embedded: 22, remaining: 1 } });
    expect(run.reason).toBe('acme: 1 row changed or arrived while the run was at work');
  });
});
