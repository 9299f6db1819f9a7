import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { planRun } from '../../src/backfill/plan-run.ts';
import { watchTargets } from '../../src/backfill/watch.ts';
import { openStory, type Story } from '../support/story.ts';

let story: Story;

beforeAll(async () => {
  story = await openStory();
});
afterAll(() => story.close());
beforeEach(async () => {
  await story.reset();
  await story.sql`DELETE FROM infill.watches`;
});

/** Looks at once, whenever the next look would be due. */
async function look({ fill = true, quietMs = 0, holder = 'w1', deps = story.deps } = {}) {
  await story.sql`UPDATE infill.watches SET next_at = now()`;
  const looks = await watchTargets(deps, [{ name: 'notes', watch: { everySeconds: 5, fill } }], holder, {
    quietMs,
  });
  return looks[0]?.outcome;
}
const addRow = (tenant: string | null = 'acme', text: string | null = 'a note') =>
  story.addRows([{ tenant, text }]);
const runs = () =>
  story.sql`SELECT run_id, status, origin, generation, plan_tenant_ids FROM infill.runs ORDER BY created_at`;
const events = async () =>
  (await story.sql`SELECT actor, action FROM infill.audit_events ORDER BY event_id`).map(
    ({ actor, action }) => `${actor} ${action}`,
  );
const state = async () => (await story.sql`SELECT * FROM infill.watches`)[0];

/** Does what the workers would do with the watch's run: plans it, fills the rows of `good` tenants, settles it. */
async function finishRun(good: readonly string[], status = 'succeeded'): Promise<void> {
  const [run] = await story.sql`SELECT run_id, generation FROM infill.runs WHERE settled_at IS NULL`;
  const { run_id: runId, generation } = run as unknown as { run_id: string; generation: number };
  await planRun(story.deps, { runId, generation });
  for (const tenant of good) {
    await story.sql`UPDATE notes SET embedding = '[1,0,0,0,0,0,0,0]' WHERE tenant_id = ${tenant}`;
    await story.sql`
      INSERT INTO infill.run_batches (run_id, tenant_id, generation, sequence, through_id, embedded_ids)
      VALUES (${runId}, ${tenant}, ${generation}, 1, '1', '{1}')`;
  }
  await story.sql`
    UPDATE infill.run_tenants SET status = CASE WHEN tenant_id = ANY(${good}::text[]) THEN 'succeeded' ELSE 'incomplete' END
     WHERE run_id = ${runId} AND generation = ${generation}`;
  await story.sql`UPDATE infill.runs SET status = ${status}, settled_at = now() WHERE run_id = ${runId}`;
}

describe('a watched target', () => {
  test('gets a run for a row that is missing, named watch in the audit', async () => {
    await addRow();

    expect(await look()).toBe('started');
    expect(await runs()).toMatchObject([{ status: 'queued', origin: 'watch', generation: 1 }]);
    expect(await events()).toEqual(['watch gap.found', 'watch run.started']);
    expect(await story.queues.runs.getJobCounts('waiting')).toEqual({ waiting: 1 });
  });

  test('gets no run when nothing is missing, or only what no run can fill', async () => {
    await addRow('acme', ' ');
    await addRow('acme', null);
    await addRow(null, 'of nobody');

    expect(await look()).toBe('nothing');
    expect(await runs()).toEqual([]);
    expect(await events()).toEqual([]);
  });

  test('is only reported on where it is not to be filled, once a gap', async () => {
    await addRow();

    expect(await look({ fill: false })).toBe('reported');
    expect(await look({ fill: false })).toBe('reported');
    expect(await runs()).toEqual([]);
    expect(await events()).toEqual(['watch gap.found']);
  });

  test('is left alone while it has an unsettled run', async () => {
    await addRow();
    await look();

    expect(await look()).toBe('unsettled');
    expect(await runs()).toHaveLength(1);
  });

  test('is looked at when it is due, and missed ticks are one tick', async () => {
    expect(await look()).toBe('nothing');
    const again = await watchTargets(
      story.deps,
      [{ name: 'notes', watch: { everySeconds: 5, fill: true } }],
      'w1',
    );
    expect(again).toEqual([]);
    await story.sql`UPDATE infill.watches SET next_at = now() - interval '1 hour'`;
    expect(await look()).toBe('nothing');

    const next = await story.sql`SELECT extract(epoch FROM next_at - now())::float8 AS s FROM infill.watches`;
    expect(next[0]?.['s']).toBeGreaterThan(3);
    expect(next[0]?.['s']).toBeLessThanOrEqual(5);
  });

  test('is looked at by one worker at a time', async () => {
    await addRow();

    expect(await look({ holder: 'w1' })).toBe('started');
    expect(await look({ holder: 'w2' })).toBeUndefined();
  });

  test('is looked at every ten minutes at most without the index', async () => {
    const inspect: typeof story.deps.inspect = async (name) => {
      const inspected = await story.deps.inspect(name);
      if (inspected?.kind !== 'ready') return inspected;
      return { ...inspected, target: { ...inspected.target, hasMissingIndex: false } };
    };
    const unindexed = { ...story.deps, inspect };
    expect(await look({ deps: unindexed })).toBe('nothing');
    await addRow();
    expect(await look({ deps: unindexed })).toBe('unindexed');
    await story.sql`UPDATE infill.watches SET checked_at = now() - interval '11 minutes'`;
    expect(await look({ deps: unindexed, fill: false })).toBe('reported');
    // An index that was made meanwhile is found at the next beat.
    expect(await look()).toBe('started');
  });

  test('that cannot be read is looked at again, and stops no other', async () => {
    const inspect = async () => ({ kind: 'absent' as const, detail: 'no table' });

    expect(await look({ deps: { ...story.deps, inspect } })).toBe('unready');
    expect(await look({ deps: { ...story.deps, inspect: () => Promise.reject(new Error('planted')) } })).toBe(
      'failed',
    );
  });
});

describe('rows that keep arriving', () => {
  test('are filled by the same run, so that the list of runs stays short', async () => {
    for (const _ of [1, 2, 3]) {
      await addRow();
      expect(await look()).toBe('started');
      await finishRun(['acme']);
    }

    expect(await runs()).toMatchObject([{ origin: 'watch', generation: 3 }]);
  });

  test('get a new run after a day', async () => {
    await addRow();
    await look();
    await finishRun(['acme']);
    await story.sql`UPDATE infill.runs SET created_at = now() - interval '25 hours'`;
    await addRow();
    await look();

    expect(await runs()).toHaveLength(2);
  });

  test('are one gap, which is filled when none was missing for a while', async () => {
    const quietMs = 60_000;
    for (const _ of [1, 2]) {
      await addRow();
      await look({ quietMs });
      await finishRun(['acme']);
      expect(await look({ quietMs })).toBe('nothing');
    }
    expect((await events()).filter((event) => event.includes('gap'))).toEqual(['watch gap.found']);
    expect((await state())?.['gap_since']).not.toBeNull();

    await look({ quietMs: 0 });
    expect((await events()).filter((event) => event.includes('gap'))).toEqual([
      'watch gap.found',
      'watch gap.filled',
    ]);
    expect((await state())?.['gap_since']).toBeNull();
  });
});

describe('rows that fail again and again', () => {
  test('start no run until their time has come', async () => {
    await addRow();
    await look();
    await finishRun([], 'incomplete');

    expect(await look()).toBe('nothing');
    expect(await look()).toBe('nothing');
    expect((await state())?.['gap_since']).not.toBeNull();
    await story.sql`UPDATE infill.watches SET retry_at = now()`;
    expect(await look()).toBe('started');
    await finishRun([], 'incomplete');
    await look();
    expect(await state()).toMatchObject({ fruitless: 2, stuck_tenants: ['acme'] });
    expect(await runs()).toMatchObject([{ generation: 2 }]);
  });

  test('do not keep rows of other tenants waiting', async () => {
    await addRow('acme');
    await look();
    await finishRun([], 'incomplete');
    await addRow('globex');

    expect(await look()).toBe('started');
    expect(await runs()).toMatchObject([{ generation: 2, plan_tenant_ids: ['globex'] }]);
    await finishRun(['globex'], 'incomplete');
    expect(await look()).toBe('nothing');
    expect(await state()).toMatchObject({ fruitless: 1, stuck_tenants: ['acme'] });
  });

  test('hold the watch when the run failed, or was cancelled', async () => {
    for (const status of ['failed', 'cancelled']) {
      await addRow();
      await look();
      await finishRun([], status);

      expect(await look()).toBe('nothing');
      const [next] =
        await story.sql`SELECT next_at > now() + interval '20 seconds' AS "isLater" FROM infill.watches`;
      expect(next).toEqual({ isLater: true });
    }
    await look();
    expect(await runs()).toHaveLength(3);
  });

  test('are forgotten when a run for all filled them', async () => {
    await addRow();
    await look();
    await finishRun([], 'incomplete');
    await look();
    await story.sql`UPDATE infill.watches SET retry_at = now()`;
    await look();
    await finishRun(['acme']);
    await look();

    expect(await state()).toMatchObject({ fruitless: 0, stuck_tenants: [] });
  });
});
