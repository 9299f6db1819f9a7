import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Target } from '../../src/core/target.ts';
import { openDatabase } from '../../src/db/client.ts';
import { quarantineRoutes } from '../../src/http/quarantine.ts';
import { buildTestServer } from '../support/admin-server.ts';
import type { Answer } from '../support/call-api.ts';
import { jsonBody, type System, startSystem, until } from '../support/system.ts';

const API = '/api/v1/admin';
const RUNS = `${API}/backfill-embeddings`;
const NO_RUN = '11111111-1111-1111-1111-111111111111';
const PRICELESS = {
  table: 'notes',
  id: 'id',
  tenant: 'tenant_id',
  text: ['content'],
  embedding: 'embedding',
  model: 'a-model-of-ours',
  dimensions: 8,
};

let system: System;

beforeAll(async () => {
  system = await startSystem({ workers: 0, targets: { priceless: PRICELESS } });
});
afterAll(() => system.close());
beforeEach(async () => {
  await system.sql`TRUNCATE notes, infill.runs, infill.run_tenants, infill.run_batches, infill.quarantined_rows,
                            infill.tenant_credentials, infill.switches, infill.audit_events`;
});

const cursorOf = (key: unknown) => Buffer.from(JSON.stringify(key)).toString('base64url');
const mistakesIn = ({ status, body }: Answer) => [
  status,
  body.errors?.map((error: { field: string }) => error.field),
];

describe('text that Postgres does not take is a 400 that names the field:', () => {
  test.each([
    ['POST', `${RUNS}?tenantId=a%00`, undefined, 'tenantId'],
    ['POST', `${RUNS}?tenantId=a&tenantId=b%00`, undefined, 'tenantId.1'],
    ['POST', `${RUNS}?target=%00`, undefined, 'target'],
    ['GET', `${API}/tenants/a%00/credential`, undefined, 'tenantId'],
    ['GET', `${API}/quarantine?code=%00`, undefined, 'code'],
    ['POST', `${API}/quarantine/release`, { code: '\ud800' }, 'code'],
    ['POST', `${API}/quarantine/release`, { target: 'notes', rowIds: ['1', '\0'] }, 'rowIds.1'],
    ['PUT', `${API}/switches`, { scope: 'tenant', name: 'a', hold: true, reason: '\0' }, 'reason'],
    ['PUT', `${API}/switches`, { scope: 'tenant', name: '\udc00', hold: true }, 'name'],
  ])('%s %s %j', async (method, path, body, field) => {
    const answer = await system.call(method, path, body === undefined ? {} : jsonBody(body));

    expect(mistakesIn(answer)).toEqual([400, [field]]);
    expect(answer.body.detail).toContain('no NUL character');
  });
});

describe('a cursor that no list wrote is a 400:', () => {
  const place = { tenantId: 'a', generation: 1, sequence: 1, place: 1 };
  const runs = { createdAt: '2026-01-01T00:00:00.000000Z', runId: NO_RUN };

  test.each([
    ['', { ...runs, createdAt: '-' }],
    ['', { ...runs, createdAt: '2026-02-30T00:00:00.000000Z' }],
    ['', { ...runs, createdAt: '0000-01-01T00:00:00.000000Z' }],
    ['', { ...runs, createdAt: '2026-01-01T00:00:00Z' }],
    ['', { ...runs, runId: 'none' }],
    ['', { ...runs, more: 1 }],
    ['', null],
    ['/{run}/tenants', { tenantId: 'a\0' }],
    ['/{run}/tenants', place],
    ['/{run}/rows', { ...place, generation: Number.MAX_SAFE_INTEGER }],
    ['/{run}/rows', { ...place, sequence: -(2 ** 31) - 1 }],
    ['/{run}/rows', { ...place, place: 2 ** 31 }],
    ['/{run}/rows', { ...place, tenantId: '\ud800' }],
  ])('%s %j', async (path, key) => {
    const { body: run } = await system.call('POST', RUNS);

    const answer = await system.call(
      'GET',
      `${RUNS}${path.replace('{run}', run.runId)}?cursor=${cursorOf(key)}`,
    );

    expect(mistakesIn(answer)).toEqual([400, ['cursor']]);
  });

  test.each([
    ['quarantine', { target: 'a', rowId: '\0' }],
    ['credentials', { tenantId: '\0' }],
  ])('%s %j', async (list, key) => {
    expect(mistakesIn(await system.call('GET', `${API}/${list}?cursor=${cursorOf(key)}`))).toEqual([
      400,
      ['cursor'],
    ]);
  });

  test('one of a run of any UUID is none of these', async () => {
    expect((await system.call('GET', `${RUNS}?cursor=${cursorOf(runs)}`)).status).toBe(200);
  });
});

describe('an id that no run has', () => {
  test.each(['', '/tenants', '/rows'])('is a 404 whatever its version is: {runId}%s', async (path) => {
    expect((await system.call('GET', `${RUNS}/${NO_RUN}${path}`)).status).toBe(404);
  });

  test.each(['abc', NO_RUN, 'a%00'])('is the page that says so: %s', async (id) => {
    const page = await system.call('GET', `/admin/runs/${id}`, { headers: { accept: 'text/html' } });

    expect(page.status).toBe(404);
    expect(page.body).toContain('No such run');
  });
});

describe('the rows of a run', () => {
  test('have the outcome that its kind of run has: would_embed of a dry run, embedded of another', async () => {
    const [real, dry] = [await seedRun(false), await seedRun(true)];
    const outcomes = async (runId: string, outcome: string) =>
      (await system.call('GET', `${RUNS}/${runId}/rows?outcome=${outcome}`)).body;

    expect(await outcomes(real, 'embedded')).toMatchObject({ items: [{ outcome: 'embedded' }] });
    expect(await outcomes(dry, 'would_embed')).toMatchObject({ items: [{ outcome: 'would_embed' }] });
    for (const [runId, outcome] of [
      [real, 'would_embed'],
      [dry, 'embedded'],
    ] as const)
      expect(await outcomes(runId, outcome)).toEqual({ items: [], nextCursor: null });
  });
});

describe('a cap in dollars', () => {
  const field = { field: 'maxCostUsd', message: expect.stringContaining('set maxTokens instead') };

  test('on a model without a known price is refused, since it would never stop anything', async () => {
    const start = await system.call('POST', `${RUNS}?target=priceless&maxCostUsd=1`);
    expect(start).toMatchObject({ status: 400, body: { errors: [field] } });

    const { body: run } = await system.call('POST', `${RUNS}?target=priceless&maxTokens=1000`);
    const change = (body: object) => system.call('PATCH', `${RUNS}/${run.runId}`, jsonBody(body));
    expect(await change({ maxCostUsd: 1 })).toMatchObject({ status: 400, body: { errors: [field] } });
    expect(await change({ maxCostUsd: null, maxTokens: 5 })).toMatchObject({ status: 200 });
  });

  test.each(['0x10', '%205', '1e3', '.5', '05'])('is written in plain digits, not as %s', async (amount) => {
    expect(mistakesIn(await system.call('POST', `${RUNS}?maxCostUsd=${amount}`))).toEqual([
      400,
      ['maxCostUsd'],
    ]);
  });

  test('may have a fraction', async () => {
    expect(await system.call('POST', `${RUNS}?maxCostUsd=0.05`)).toMatchObject({
      status: 202,
      body: { maxCostUsd: 0.05 },
    });
  });
});

test('a dry run says from its first answer on that tokens are spent', async () => {
  const { body } = await system.call('POST', `${RUNS}?dryRun=true`);

  expect(body.message).toMatch(/^Dry run: .*tokens are spent; nothing is written\.$/);
});

describe('the quarantine', () => {
  const release = (body: object) => system.call('POST', `${API}/quarantine/release`, jsonBody(body));

  test('can be asked for a tenant by either name of the parameter, not by both', async () => {
    await quarantine('notes', '1', 'acme');
    await quarantine('notes', '2', 'globex');
    const idsBy = async (query: string) =>
      (await system.call('GET', `${API}/quarantine?${query}`)).body.items.map(
        (row: { rowId: string }) => row.rowId,
      );

    expect(await idsBy('tenant=acme')).toEqual(['1']);
    expect(await idsBy('tenantId=globex')).toEqual(['2']);
    const both = await system.call('GET', `${API}/quarantine?tenant=acme&tenantId=acme`);
    expect(mistakesIn(both)).toEqual([400, ['tenant']]);
  });

  test('lets rows go by either name of the ids, and only those of the target that is named', async () => {
    for (const [target, id] of [
      ['notes', '1'],
      ['notes', '2'],
      ['priceless', '1'],
    ] as const)
      await quarantine(target, id, 'acme');

    expect(mistakesIn(await release({ ids: ['1'] }))).toEqual([400, ['target']]);
    expect(mistakesIn(await release({ target: 'notes', ids: ['1'], rowIds: ['1'] }))).toEqual([400, ['ids']]);
    expect((await release({ target: 'notes', ids: ['1'] })).body).toEqual({ released: 1 });
    expect((await release({ target: 'notes', rowIds: ['2'] })).body).toEqual({ released: 1 });
    expect((await release({ tenant: 'acme' })).body).toEqual({ released: 1 });
  });

  test('needs no target with the ids where there is only one', async () => {
    await quarantine('notes', '1', 'acme');
    const database = openDatabase(system.databaseUrl, { connectionsMax: 2, applicationName: 'test' });
    const targets = new Map([['notes', {} as Target]]);
    const { app, secret } = await buildTestServer({
      routes: [quarantineRoutes({ db: database.db, targets, inspect: async () => undefined })],
    });

    const answer = await app.inject({
      method: 'POST',
      url: `${API}/quarantine/release`,
      headers: secret,
      payload: { ids: ['1'] },
    });

    expect(answer.json()).toEqual({ released: 1 });
    await app.close();
    await database.close();
  });

  test('keeps its rows when the release cannot be recorded', async () => {
    await quarantine('notes', '1', 'acme');
    await system.sql`ALTER TABLE infill.audit_events RENAME TO elsewhere`;

    const answer = await release({ target: 'notes' });

    await system.sql`ALTER TABLE infill.elsewhere RENAME TO audit_events`;
    expect(answer.status).toBe(500);
    expect(await system.sql`SELECT row_id FROM infill.quarantined_rows`).toHaveLength(1);
  });
});

test('a switch holds only a target that there is; and lets any go on', async () => {
  const flip = (name: string, hold: boolean) =>
    system.call('PUT', `${API}/switches`, jsonBody({ scope: 'target', name, hold }));

  expect(await flip('typo', true)).toMatchObject({
    status: 400,
    body: { errors: [{ field: 'name', message: 'must be one of notes, absent, priceless' }] },
  });
  expect((await flip('typo', false)).status).toBe(200);
  expect(await flip('notes', true)).toMatchObject({ status: 200, body: { items: [{ name: 'notes' }] } });
});

// The last of the file: it takes the tables away.
test('without its tables the API is not ready, and says what to do', async () => {
  await system.sql`ALTER SCHEMA infill RENAME TO infill_elsewhere`;
  const advice = 'not migrated: run `npm run migrate`';
  await until(async () => (await system.call('GET', '/readyz')).status === 503, 'the API notices');

  expect((await system.call('GET', '/readyz')).body).toEqual({
    status: 'unavailable',
    checks: { postgres: advice, redis: 'ok' },
  });
  for (const [method, path] of [
    ['POST', RUNS],
    ['GET', RUNS],
    ['GET', `${API}/quarantine`],
  ] as const) {
    const answer = await system.call(method, path);
    expect(answer).toMatchObject({ status: 503, body: { type: '/docs/problems#unavailable' } });
    expect(answer.body.detail).toContain(advice);
  }
  const page = await system.call('GET', `/admin/runs/${NO_RUN}`, { headers: { accept: 'text/html' } });
  expect(page.status).toBe(503);
  expect(page.body).toContain('The run cannot be shown now');

  await system.sql`ALTER SCHEMA infill_elsewhere RENAME TO infill`;
  await until(async () => (await system.call('GET', '/readyz')).status === 200, 'the API is ready again');
});

async function seedRun(dryRun: boolean): Promise<string> {
  const [run] = await system.sql<{ run_id: string }[]>`
    INSERT INTO infill.runs (run_id, target, status, dry_run, batch_size, settled_at)
    VALUES (gen_random_uuid(), 'notes', 'succeeded', ${dryRun}, 50, now()) RETURNING run_id`;
  const runId = run?.run_id ?? '';
  await system.sql`INSERT INTO infill.run_tenants (run_id, tenant_id, status) VALUES (${runId}, 'a', 'succeeded')`;
  await system.sql`
    INSERT INTO infill.run_batches (run_id, tenant_id, generation, sequence, through_id, embedded_ids, superseded_ids, gone_ids, quarantined_ids, failed_ids)
    VALUES (${runId}, 'a', 1, 1, '1', '{1}', '{}', '{}', '{}', '{}')`;
  return runId;
}

async function quarantine(target: string, rowId: string, tenant: string): Promise<void> {
  await system.sql`
    INSERT INTO infill.quarantined_rows (target, row_id, tenant_id, text_hash, model, code)
    VALUES (${target}, ${rowId}, ${tenant}, 'hash', 'm', 'input_rejected')`;
}
