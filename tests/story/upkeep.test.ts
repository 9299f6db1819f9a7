import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { forgetOld } from '../../src/backfill/retention.ts';
import { sampleCoverage } from '../../src/backfill/sample-coverage.ts';
import { listSamples, readGapSince } from '../../src/db/samples.ts';
import { openStory, type Story } from '../support/story.ts';

let story: Story;

beforeAll(async () => {
  story = await openStory();
});
afterAll(() => story.close());
beforeEach(async () => {
  await story.reset();
  await story.sql`DELETE FROM infill.coverage_samples`;
  await story.sql`DELETE FROM infill.run_requests`;
  await story.sql`DELETE FROM infill.watches`;
});

const count = async (table: string) =>
  (await story.sql.unsafe(`SELECT count(*)::int AS n FROM infill.${table}`))[0]?.['n'];

describe('the history of coverage', () => {
  const sample = (everyMs?: number, targets = ['notes']) =>
    sampleCoverage(story.deps, targets, 'w1', everyMs);

  test('has a sample of each target every few minutes, whoever asks', async () => {
    await story.addRows([
      { tenant: 'acme', text: 'one' },
      { tenant: 'acme', text: ' ' },
    ]);

    expect(await sample()).toEqual(['notes']);
    expect(await sample()).toEqual([]);
    expect(await sampleCoverage(story.deps, ['notes'], 'w2')).toEqual([]);
    expect(await listSamples(story.deps.db, 'notes', 1)).toMatchObject([
      { missing: 1, stale: 0, unverified: 0, quarantined: 0, unembeddable: 1, embedded: 0, estimated: false },
    ]);
  });

  test('has no sample of a target that cannot be counted, and goes on with the others', async () => {
    expect(await sample(0, ['unknown', 'notes'])).toEqual(['notes']);
  });

  test('says since when rows have been missing without a break', async () => {
    const samples = (rows: readonly [number, number][]) => story.sql`
      INSERT INTO infill.coverage_samples (target, at, missing)
      SELECT 'notes', now() - make_interval(hours => h), m
        FROM unnest(${rows.map(([hours]) => hours)}::int[], ${rows.map(([, missing]) => missing)}::int[]) AS s (h, m)`;
    const hoursSince = async () => {
      const since = await readGapSince(story.deps.db, 'notes');
      return since === null ? null : Math.round((Date.now() - Date.parse(since)) / 3_600_000);
    };
    expect(await hoursSince()).toBeNull();
    await samples([
      [9, 4],
      [7, 0],
      [5, 2],
      [3, 1],
    ]);
    expect(await hoursSince()).toBe(5);
    await samples([[1, 0]]);
    expect(await hoursSince()).toBeNull();
    await story.sql`INSERT INTO infill.watches (target, gap_since) VALUES ('notes', now() - interval '2 hours')`;
    expect(await hoursSince()).toBe(2);
  });

  test('is thinned out: one an hour after two days, one a day after two weeks, none after 90', async () => {
    await story.sql`
      INSERT INTO infill.coverage_samples (target, at, missing)
      SELECT 'notes', date_trunc('day', now()) - d * interval '1 day' + n * interval '5 minutes', n
        FROM unnest(ARRAY[1, 5, 30, 100]) AS a (d), generate_series(0, 287) AS n`;
    await forgetOld(story.deps, { days: 90 }, 'w1');
    await forgetOld(story.deps, { days: 90 }, 'w1');

    const left = await story.sql`
      SELECT (date_trunc('day', now())::date - at::date)::int AS d, count(*)::int AS n, max(missing)::int AS worst
        FROM infill.coverage_samples GROUP BY 1 ORDER BY 1`;
    expect([...left]).toEqual([
      { d: 1, n: 288, worst: 287 },
      { d: 5, n: 24, worst: 287 },
      { d: 30, n: 1, worst: 287 },
    ]);
  });
});

describe('what has had its time', () => {
  const addRun = async (ageDays: number, { origin = 'api', settled = true } = {}) => {
    const [run] = await story.sql`
      INSERT INTO infill.runs (run_id, target, status, dry_run, batch_size, origin, created_at, settled_at)
      VALUES (gen_random_uuid(), ${`t${ageDays}${origin}${settled}`}, ${settled ? 'succeeded' : 'running'}, false, 50, ${origin},
              now() - make_interval(days => ${ageDays}), CASE WHEN ${settled} THEN now() - make_interval(days => ${ageDays}) END)
      RETURNING run_id`;
    const runId = run?.['run_id'] as string;
    await story.sql`INSERT INTO infill.run_tenants (run_id, tenant_id) VALUES (${runId}, 'acme')`;
    await story.sql`
      INSERT INTO infill.run_batches (run_id, tenant_id, generation, sequence, through_id, ended_at)
      SELECT ${runId}, 'acme', 1, n, '1', now() - make_interval(days => ${ageDays}) FROM generate_series(1, 30) n`;
    return runId;
  };
  const runIds = async () =>
    (await story.sql`SELECT run_id FROM infill.runs ORDER BY created_at`).map((run) => run['run_id']);

  test('is deleted: settled runs and the audit after so many days, little by little', async () => {
    const old = [await addRun(91), await addRun(95)];
    const kept = [await addRun(200, { settled: false }), await addRun(89)];
    await story.sql`
      INSERT INTO infill.audit_events (actor, action, at, deliver_at)
      VALUES ('a', 'old', now() - interval '91 days', NULL), ('a', 'due', now() - interval '91 days', now()), ('a', 'new', now(), NULL)`;
    await story.sql`
      INSERT INTO infill.run_requests (target, requested_by, requested_at, status)
      VALUES ('notes', 'a', now() - interval '91 days', 'started'), ('notes', 'a', now() - interval '91 days', 'waiting')`;

    const deleted = await forgetOld(story.deps, { days: 90 }, 'w1', 7);

    expect(deleted).toMatchObject({ runs: old.length, audit: 1, requests: 1 });
    expect(await runIds()).toEqual(kept);
    expect(
      (await story.sql`SELECT action FROM infill.audit_events ORDER BY 1`).map(({ action }) => action),
    ).toEqual(['due', 'new']);
    expect(await count('run_tenants')).toBe(2);
  });

  test('is deleted sooner where it is much: row ids after a week, those of the watch after a day', async () => {
    await addRun(8);
    await addRun(6);
    await addRun(2, { origin: 'watch' });
    await addRun(0, { origin: 'watch' });
    await forgetOld(story.deps, { days: 90 }, 'w1');

    const left = await story.sql`
      SELECT r.target, count(b.run_id)::int AS n FROM infill.runs r LEFT JOIN infill.run_batches b USING (run_id) GROUP BY 1 ORDER BY 1`;
    expect([...left].map(({ n }) => n)).toEqual([30, 0, 30, 0]);
  });

  test('of a run at work is kept, whatever its age', async () => {
    await addRun(30, { settled: false });
    await forgetOld(story.deps, { days: 1 }, 'w1');

    expect(await count('run_batches')).toBe(30);
  });

  test('is never the ledger of what was spent', async () => {
    await story.sql`INSERT INTO infill.usage_ledger (tenant_id, target, month, tokens) VALUES ('acme', 'notes', '2020-01-01', 7)`;
    await forgetOld(story.deps, { days: 1 }, 'w1');

    expect(await count('usage_ledger')).toBe(1);
  });
});
