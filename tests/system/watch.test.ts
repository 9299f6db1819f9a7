/** Tables that complete themselves: rows that arrive all the time, gaps that are only reported, and runs asked for in SQL. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type System, startSystem, until, wrongRows } from '../support/system.ts';

/** How long rows arrive. */
const SECONDS = 10;
const ROWS_A_SECOND = 50;

let system: System;

async function open(watch: object): Promise<void> {
  system = await startSystem({ workers: 2, target: { watch } });
  await system.sql.unsafe(`
    ALTER TABLE notes ADD COLUMN came timestamptz DEFAULT clock_timestamp(), ADD COLUMN filled timestamptz;
    CREATE FUNCTION note_filled() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.filled := clock_timestamp(); RETURN NEW; END';
    CREATE TRIGGER note_filled BEFORE UPDATE OF embedding ON notes FOR EACH ROW EXECUTE FUNCTION note_filled()`);
}
const isComplete = async () => wrongRows(await system.rows()).length === 0;
const listed = async () => (await system.call('GET', '/api/v1/admin/backfill-embeddings')).body.items;

describe('a table that is watched and filled', () => {
  beforeAll(() => open({ everySeconds: 1 }));
  afterAll(() => system?.close());

  test(
    'gets its vectors within 5 seconds while rows arrive all the time, by one run',
    async () => {
      for (let second = 0; second < SECONDS; second++) {
        const rest = new Promise((resolve) => setTimeout(resolve, 1_000));
        await system.addRows(
          Array.from({ length: ROWS_A_SECOND }, (_, index) => ({
            tenant: `tenant ${index % 5}`,
            text: `note ${second} ${index}`,
          })),
        );
        await rest;
      }
      await until(isComplete, 'all rows are filled');

      const [figures] = await system.sql`
        SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM filled - came)) AS p95, count(*)::int AS rows FROM notes`;
      expect(figures?.['rows']).toBe(SECONDS * ROWS_A_SECOND);
      expect(figures?.['p95']).toBeLessThan(5);
      expect(await listed()).toHaveLength(1);
      expect((await listed())[0].rows.embedded).toBe(SECONDS * ROWS_A_SECOND);
    },
    (SECONDS + 60) * 1_000,
  );

  test('takes a run that is asked for in SQL, when and only if its transaction commits', async () => {
    const addAndAsk = (fails: boolean) =>
      system.sql.begin(async (tx) => {
        await tx`INSERT INTO notes (tenant_id, content) SELECT 'acme', 'migrated ' || n FROM generate_series(1, 500) n`;
        await tx`SELECT infill.request_backfill('notes', 'acme')`;
        if (fails) throw new Error('rolled back');
      });
    await expect(addAndAsk(true)).rejects.toThrow('rolled back');
    await addAndAsk(false);
    await until(isComplete, 'all rows are filled');

    expect(await system.sql`SELECT 1 FROM infill.run_requests`).toHaveLength(1);
  });
});

describe('a table that is watched and not filled', () => {
  beforeAll(() => open({ everySeconds: 1, fill: false }));
  afterAll(() => system?.close());
  beforeEach(() => system.openai.ledger.reset());

  test('has its gap told, and nothing sent, until somebody fills it', async () => {
    await system.addRows([{ tenant: 'acme', text: 'a planted gap' }]);
    const told = async (action: string) =>
      (await system.sql`SELECT 1 FROM infill.audit_events WHERE action = ${action} AND subject = 'notes'`)
        .length === 1;
    await until(() => told('gap.found'), 'the gap is told');

    expect(system.openai.ledger.entries).toEqual([]);
    expect(await listed()).toEqual([]);
    const metrics = await (await fetch(`${system.url}/metrics`)).text();
    expect(metrics).toMatch(/infill_gap_age_seconds\{target="notes"\} [\d.]+/);

    await system.backfill();
    await until(() => told('gap.filled'), 'the end of the gap is told');
  });
});
