import { randomUUID } from 'node:crypto';
import { sql } from 'drizzle-orm';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { toTargets } from '../../src/core/target.ts';
import { recordPart } from '../../src/db/batch-parts.ts';
import { type CheckedTarget, inspectTarget } from '../../src/db/catalog.ts';
import { type ClaimedRange, claimRange } from '../../src/db/claims.ts';
import { type Database, openDatabase } from '../../src/db/client.ts';
import { type LaneConnections, openLane } from '../../src/db/lane.ts';
import { planTenants } from '../../src/db/run-plan.ts';
import {
  beginPass,
  beginTenant,
  type RunTenantKey,
  readRunTenant,
  settleTenant,
} from '../../src/db/run-tenants.ts';
import { insertRun, moveRun, nextGeneration } from '../../src/db/runs.ts';
import { createTestDatabase, type TestService } from '../support/services.ts';

/** Claims at the same moment; on the embedded Postgres they take turns. */
const CALLERS = 12;

let service: TestService;
let database: Database;
let lane: LaneConnections;
let target: CheckedTarget;
let key: RunTenantKey;

beforeAll(async () => {
  service = await createTestDatabase();
  database = openDatabase(service.url, { connectionsMax: CALLERS, applicationName: 'test' });
  lane = openLane(service.url, { connectionsMax: CALLERS, applicationName: 'test' });
  await database.db.execute(
    sql`CREATE TABLE notes (id bigint PRIMARY KEY, tenant_id text, content text, embedding vector(2))`,
  );
  await database.db.execute(sql`CREATE INDEX ON notes (tenant_id, id) WHERE embedding IS NULL`);
  const entry = {
    table: 'notes',
    id: 'id',
    tenant: 'tenant_id',
    text: ['content'],
    embedding: 'embedding',
    model: 'm',
    dimensions: 2,
    onTooLong: 'quarantine' as const,
  };
  const described = toTargets({ targets: { notes: entry } }).get('notes');
  const state = described && (await inspectTarget(database.db, described));
  if (state?.kind !== 'ready') throw new Error(state?.detail);
  target = state.target;
});
afterAll(async () => {
  await lane.close();
  await database.close();
  await service.close();
});
beforeEach(async () => {
  await database.db.execute(
    sql`TRUNCATE notes, infill.runs, infill.run_tenants, infill.run_batches, infill.quarantined_rows CASCADE`,
  );
});

/** A running run of the tenant `acme` whose rows have these ids; others lie between them that are no work. */
async function givenRun(
  ids: readonly number[],
  { allowance = null }: { allowance?: number | null } = {},
): Promise<void> {
  await database.db.execute(sql`
    INSERT INTO notes SELECT id, 'acme', 'note', NULL FROM unnest(${sql.param(ids)}::bigint[]) AS id`);
  const runId = randomUUID();
  await insertRun(database.db, {
    origin: 'api',
    runId,
    target: 'notes',
    dryRun: false,
    batchSize: 50,
    rowLimit: null,
    tenantIds: null,
    maxTokens: null,
    maxCostUsd: null,
    idempotencyKey: null,
    requestHash: null,
  });
  await moveRun(database.db, runId, 'running');
  key = { runId, generation: 1, tenantId: 'acme' };
  await planTenants(database.db, key, [
    { tenantId: 'acme', rows: ids.length, allowance, wholeThroughId: null },
  ]);
  await beginTenant(database.db, key);
}

async function claim(rowsMax: number, { window = 1_000, of = key } = {}): Promise<ClaimedRange | undefined> {
  if ((await batchSize()) !== rowsMax)
    await database.db.execute(
      sql`UPDATE infill.runs SET batch_size = ${rowsMax} WHERE run_id = ${key.runId}`,
    );
  return claimRange(database.db, target, of, { window, windowMax: 1_000 });
}

async function batchSize(): Promise<number | undefined> {
  const rows = await database.db.execute<{ size: number }>(
    sql`SELECT batch_size AS size FROM infill.runs WHERE run_id = ${key.runId}`,
  );
  return rows[0]?.size;
}

/** Ends a batch with the rows that it gave up. */
async function end(sequence: number, range: ClaimedRange, failed: readonly string[] = []): Promise<void> {
  const nothing = { rows: [], requests: 0, tokens: 0, costUsd: null, quarantined: [], truncated: [] };
  await recordPart(
    lane,
    { target, batch: { ...key, ...range, sequence }, dryRun: false },
    { ...nothing, partId: randomUUID(), end: { failed, reason: null }, claim: null, settlesWhole: false },
  );
}

/** As many callers at once as there are, each until nothing is left to claim. */
async function claimAll(rowsMax: number): Promise<ClaimedRange[]> {
  const claimed: ClaimedRange[] = [];
  const caller = async () => {
    for (let range = await claim(rowsMax); range !== undefined; range = await claim(rowsMax))
      claimed.push(range);
  };
  await Promise.all(Array.from({ length: CALLERS }, caller));
  return claimed.sort((a, b) => a.sequence - b.sequence);
}

function idsIn(ids: readonly number[], { afterId, throughId }: ClaimedRange): number[] {
  return ids.filter((id) => (afterId === null || id > Number(afterId)) && id <= Number(throughId));
}

const upTo = (count: number) => Array.from({ length: count }, (_, index) => index * 3 - 100);

describe('claims of many callers at once', () => {
  test('never overlap, leave nothing out, and are numbered without a gap', async () => {
    const ids = upTo(1_000);
    await givenRun(ids);

    const claimed = await claimAll(7);

    expect(claimed.map(({ sequence }) => sequence)).toEqual(
      Array.from({ length: 143 }, (_, index) => index + 1),
    );
    expect(claimed.flatMap((range) => idsIn(ids, range))).toEqual(ids);
    for (const [index, range] of claimed.entries()) {
      expect(range.afterId).toBe(claimed[index - 1]?.throughId ?? null);
      expect(idsIn(ids, range).length).toBeLessThanOrEqual(7);
    }
  });

  test('fill a window and no more, until a batch of it has ended', async () => {
    await givenRun(upTo(500));
    const attempt = async () => {
      const claimed = await Promise.all(Array.from({ length: 20 }, () => claim(5, { window: 4 })));
      return claimed.filter((range) => range !== undefined);
    };

    const [first, ...others] = await attempt();
    expect(others).toHaveLength(3);
    expect(await attempt()).toEqual([]);

    if (first === undefined) throw new Error('a window of four has a first');
    // Ended by ten processes at once, it counts once.
    await Promise.all(Array.from({ length: 10 }, () => end(first.sequence, first)));
    expect(await readRunTenant(database.db, key.runId, 'acme')).toMatchObject({ ended: 1 });
    expect(await attempt()).toHaveLength(1);
  });

  test('share out an allowance to the last row, and not one row more', async () => {
    const ids = upTo(200);
    await givenRun(ids, { allowance: 43 });

    const claimed = await claimAll(8);

    expect(claimed.flatMap((range) => idsIn(ids, range))).toEqual(ids.slice(0, 43));
    expect(await readRunTenant(database.db, key.runId, 'acme')).toMatchObject({ allowance: 0 });
  });
});

describe('nothing is claimed', () => {
  test.each([
    ['of a run that pauses', () => moveRun(database.db, key.runId, 'pausing')],
    ['of a run that is cancelled', () => moveRun(database.db, key.runId, 'cancelling')],
    ['by a generation that is over', () => nextGeneration(database.db, key.runId, { statuses: ['running'] })],
    [
      'of a tenant that is settled',
      () => settleTenant(database.db, key, { status: 'incomplete', reason: 'a dead key', remaining: null }),
    ],
  ])('%s', async (_name, change) => {
    await givenRun(upTo(20));
    expect(await claim(5)).toMatchObject({ sequence: 1 });

    await change();

    expect(await claim(5)).toBeUndefined();
  });

  test('of a run or a tenant that is not there', async () => {
    await givenRun(upTo(20));

    expect(await claim(5, { of: { ...key, tenantId: 'globex' } })).toBeUndefined();
    expect(await claim(5, { of: { ...key, runId: randomUUID() } })).toBeUndefined();
  });
});

test('a pass is begun once, walks from the first row again, and leaves out what was given up', async () => {
  const ids = upTo(12);
  await givenRun(ids);
  const [first] = await claimAll(5);
  if (first === undefined) throw new Error('twelve rows have a first range');
  await end(first.sequence, first, [String(ids[0]), String(ids[2])]);

  const begun = await Promise.all(Array.from({ length: 6 }, () => beginPass(database.db, key, 2)));

  expect(begun.filter(Boolean)).toHaveLength(1);
  const range = await claim(2);
  expect(range).toEqual({ sequence: 4, afterId: null, throughId: String(ids[3]), rows: 2, underWay: 1 });
});

test('a pass goes up to the last row that was there when it began, however many arrive behind it', async () => {
  const ids = upTo(30);
  await givenRun(ids);
  const arrive = () =>
    database.db.execute(sql`INSERT INTO notes SELECT max(id) + 1, 'acme', 'late' FROM notes`);

  const claimed: ClaimedRange[] = [];
  for (let range = await claim(4); range !== undefined; range = await claim(4)) {
    claimed.push(range);
    await arrive();
  }

  expect(claimed.flatMap((range) => idsIn(ids, range))).toEqual(ids);
  expect(claimed).toHaveLength(8);
});

test('invariant: whatever rows there are, the claims of a pass cover each row that is work, once, in order', async () => {
  const row = fc.record({
    id: fc.integer({ min: -50, max: 50 }),
    kind: fc.constantFrom('work', 'work', 'blank', 'embedded', 'quarantined', 'of another tenant'),
  });
  const rows = fc.uniqueArray(row, { selector: ({ id }) => id, maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(rows, fc.integer({ min: 1, max: 9 }), async (given, rowsMax) => {
      await database.db.execute(
        sql`TRUNCATE notes, infill.runs, infill.run_tenants, infill.quarantined_rows CASCADE`,
      );
      for (const { id, kind } of given.filter(({ kind }) => kind !== 'work')) {
        const content = kind === 'blank' ? ' ' : 'note';
        await database.db.execute(sql`
          INSERT INTO notes VALUES (${id}, ${kind === 'of another tenant' ? 'globex' : 'acme'}, ${content}, ${kind === 'embedded' ? '[1,2]' : null}::vector)`);
        if (kind !== 'quarantined') continue;
        await database.db.execute(sql`
          INSERT INTO infill.quarantined_rows (target, row_id, tenant_id, text_hash, model, code)
          VALUES ('notes', ${String(id)}, 'acme', encode(sha256('note'), 'hex'), 'm', 'input_rejected')`);
      }
      const work = given
        .filter(({ kind }) => kind === 'work')
        .map(({ id }) => id)
        .sort((a, b) => a - b);
      await givenRun(work);

      const claimed: ClaimedRange[] = [];
      for (let range = await claim(rowsMax); range !== undefined; range = await claim(rowsMax))
        claimed.push(range);

      expect(claimed.map((range) => idsIn(work, range))).toEqual(chunks(work, rowsMax));
    }),
    { numRuns: 25 },
  );
});

function chunks(ids: readonly number[], size: number): number[][] {
  return Array.from({ length: Math.ceil(ids.length / size) }, (_, index) =>
    ids.slice(index * size, (index + 1) * size),
  );
}
