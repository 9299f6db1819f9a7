import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type Json, type System, startSystem } from '../support/system.ts';

let system: System;

beforeAll(async () => {
  system = await startSystem();
  await system.sql.unsafe(`
    CREATE FUNCTION clears() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.embedding := NULL; RETURN NEW; END $$;
    CREATE FUNCTION skips() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.content LIKE 'kept%' THEN RETURN NEW; END IF; RETURN NULL; END $$;
    CREATE FUNCTION clears_later() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN UPDATE notes SET embedding = NULL WHERE id = NEW.id AND embedding IS NOT NULL; RETURN NULL; END $$;
    CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN IF NEW.content LIKE 'bad%' THEN RAISE EXCEPTION 'no vector for "%"', NEW.content; END IF; RETURN NEW; END $$;`);
});
afterAll(() => system.close());
beforeEach(async () => {
  await system.sql.unsafe(`
    DROP TRIGGER IF EXISTS "the culprit" ON notes; ALTER TABLE notes DROP CONSTRAINT IF EXISTS tidy;
    DELETE FROM notes; DELETE FROM infill.quarantined_rows`);
  system.openai.ledger.reset();
});

const calls = () => system.openai.ledger.entries.length;
const add = (texts: readonly string[]) => system.addRows(texts.map((text) => ({ tenant: 'acme', text })));
const trigger = async (when: string, name: string) => {
  await system.sql.unsafe(
    `CREATE TRIGGER "the culprit" ${when} UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION ${name}()`,
  );
  // A target that was found ready is taken to be so for ten seconds; a restarted worker looks at once.
  for (const worker of system.processes.slice(1)) await worker.stop('SIGTERM');
  await system.startWorker();
};
const filled = async () =>
  (await system.rows()).filter(({ embedding }) => embedding !== null).map(({ content }) => content);
const quarantined = async (): Promise<Json[]> =>
  (await system.call('GET', '/api/v1/admin/quarantine')).body.items;

test.each([
  ['BEFORE', 'clears'],
  ['BEFORE', 'skips'],
  ['AFTER', 'clears_later'],
])(
  'a trigger that takes the embedding away stops the run after its first batch, and is named: %s %s',
  async (when, name) => {
    await add(Array.from({ length: 12 }, (_, index) => `text ${index}`));
    await trigger(when, name);

    const run = await system.backfill('?batchSize=4');

    expect(run).toMatchObject({ status: 'failed', rows: { embedded: 0, remaining: 12 } });
    expect(run.reason).toContain('trigger "the culprit"');
    expect(calls()).toBeLessThan(4);
    expect(await quarantined()).toEqual([]);
  },
);

test('a trigger that skips one row costs that row', async () => {
  await add(['kept one', 'kept two', 'skipped', 'kept three']);
  await trigger('BEFORE', 'skips');

  const run = await system.backfill();

  expect(run).toMatchObject({
    status: 'incomplete',
    rows: { embedded: 3, quarantined: 1, superseded: 0, remaining: 1 },
  });
  expect(await quarantined()).toMatchObject([
    { code: 'write_undone', message: 'Look at trigger "the culprit".' },
  ]);
  expect(calls()).toBe(1);
  expect(await filled()).toEqual(['kept one', 'kept two', 'kept three']);
});

test('a trigger that refuses one row costs that row, which carries its words without the text', async () => {
  await add(['one', 'two', 'bad apple', 'three', 'four']);
  await trigger('BEFORE', 'refuses');

  const run = await system.backfill();

  expect(run).toMatchObject({
    status: 'incomplete',
    rows: { embedded: 4, quarantined: 1, failed: 0, remaining: 1 },
  });
  expect(await quarantined()).toMatchObject([{ code: 'row_refused', message: 'no vector for "***"' }]);
  expect(calls()).toBe(1);
  expect(await filled()).toEqual(['one', 'two', 'three', 'four']);
});

test('a CHECK that refuses one row costs that row', async () => {
  await add(['one', 'last']);
  await system.sql`ALTER TABLE notes ADD CONSTRAINT tidy CHECK (content <> 'last' OR embedding IS NULL)`;

  const run = await system.backfill();

  expect(run).toMatchObject({ status: 'incomplete', rows: { embedded: 1, quarantined: 1, remaining: 1 } });
  expect((await quarantined())[0]).toMatchObject({
    code: 'row_refused',
    message: expect.stringContaining('"tidy"'),
  });
});

test('a CHECK that refuses every row stops the run with its words', async () => {
  await add(['one', 'two', 'three']);
  await system.sql`ALTER TABLE notes ADD CONSTRAINT tidy CHECK (embedding IS NULL)`;

  const run = await system.backfill();

  expect(run).toMatchObject({ status: 'failed', rows: { embedded: 0, remaining: 3 } });
  expect(run.reason).toContain('"tidy"');
  expect(await quarantined()).toEqual([]);
});
