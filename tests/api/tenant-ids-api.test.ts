import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { DIMENSIONS, jsonBody, MODEL, type System, startSystem, until } from '../support/system.ts';

const API = '/api/v1/admin';
const RUNS = `${API}/backfill-embeddings`;
const KEY = 'sk-key-of-a-uuid-0001';
const TENANT = 'aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee';
const CAPITALS = TENANT.toUpperCase();
const OTHER = 'ffffffff-bbbb-4ccc-8ddd-eeeeeeeeeeee';

let system: System;

beforeAll(async () => {
  const columns = { id: 'id', tenant: 'tenant_id', text: ['content'], model: MODEL, dimensions: DIMENSIONS };
  // Every target is there, so that an id which none of them can hold is a mistake.
  const absent = { table: 'notes', embedding: 'embedding', ...columns };
  system = await startSystem({ workers: 0, api: false, targets: { absent } });
  // Before anybody looks: a table that was found ready is taken to be so for ten seconds.
  await system.sql`ALTER TABLE notes ALTER COLUMN tenant_id TYPE uuid USING tenant_id::uuid`;
  await system.startApi();
  await system.startWorker();
  system.openai.accounts.put({ key: KEY, organization: 'org-of-a-uuid' });
});
afterAll(() => system.close());
beforeEach(async () => {
  await system.sql`TRUNCATE notes, infill.runs, infill.run_tenants, infill.run_batches, infill.quarantined_rows,
                            infill.tenant_credentials, infill.switches, infill.audit_events`;
  await system.sql`INSERT INTO notes (tenant_id, content) VALUES (${TENANT}, 'mine'), (${OTHER}, 'of another')`;
  system.openai.ledger.reset();
});

const pathOf = (tenant: string) => `${API}/tenants/${tenant}/credential`;
const put = (tenant: string) => system.call('PUT', pathOf(tenant), jsonBody({ apiKey: KEY }));
const hold = (name: string, held: boolean) =>
  system.call('PUT', `${API}/switches`, jsonBody({ scope: 'tenant', name, hold: held }));

describe('the key of a tenant whose column is uuid', () => {
  test('embeds its texts in whatever spelling it was stored', async () => {
    expect(await put(CAPITALS)).toMatchObject({ status: 200, body: { tenantId: TENANT } });

    await system.backfill();

    expect([...(system.openai.ledger.keysByText().get('mine') ?? [])]).toEqual([KEY]);
  });

  test('is shown, tried and removed in any spelling', async () => {
    await put(TENANT);

    expect(await system.call('GET', pathOf(CAPITALS))).toMatchObject({ body: { tenantId: TENANT } });
    expect(await system.call('POST', `${pathOf(CAPITALS)}/check`)).toMatchObject({
      body: { tenantId: TENANT, status: 'valid' },
    });
    expect((await system.call('DELETE', pathOf(CAPITALS))).status).toBe(204);
    expect((await system.call('GET', pathOf(TENANT))).status).toBe(404);
  });

  test('is shown and removed too where it was stored in another spelling before the table was there', async () => {
    await put(TENANT);
    await system.sql`UPDATE infill.tenant_credentials SET tenant_id = ${CAPITALS}`;

    expect(await system.call('GET', pathOf(CAPITALS))).toMatchObject({ body: { tenantId: CAPITALS } });
    expect((await system.call('DELETE', pathOf(CAPITALS))).status).toBe(204);
    expect(await system.sql`SELECT 1 FROM infill.tenant_credentials`).toEqual([]);
  });

  test('is not stored for an id that no target can hold', async () => {
    expect(await put('acme')).toMatchObject({
      status: 400,
      body: {
        errors: [{ field: 'tenantId', message: "must be a uuid, as the targets' tenants are" }],
      },
    });
    expect((await system.call('GET', pathOf('acme'))).status).toBe(404);
    expect((await system.call('DELETE', pathOf('acme'))).status).toBe(204);
  });
});

describe('a switch of a tenant whose column is uuid', () => {
  test('holds it, and lets it go on, in any spelling', async () => {
    expect(await hold(CAPITALS, true)).toMatchObject({
      status: 200,
      body: { items: [{ scope: 'tenant', name: TENANT }] },
    });
    const { body: run } = await system.call('POST', RUNS);
    await until(
      async () => /an operator switched/.test((await system.run(run.runId)).message),
      'the tenant is held',
    );
    expect(system.openai.ledger.keysByText().has('mine')).toBe(false);

    expect((await hold(CAPITALS, false)).body).toEqual({ items: [] });
    expect(await system.settled(run.runId)).toMatchObject({ status: 'succeeded', rows: { embedded: 2 } });
  });

  test('is refused for an id that no target can hold, which may still be let go on', async () => {
    expect(await hold('acme', true)).toMatchObject({ status: 400, body: { errors: [{ field: 'name' }] } });
    expect((await hold('acme', false)).status).toBe(200);
  });
});

test('a retry takes a tenant of the run in any spelling, and no other tenant', async () => {
  const runId = randomUUID();
  await system.sql`
    INSERT INTO infill.runs (run_id, target, status, dry_run, batch_size, tenant_ids, settled_at)
    VALUES (${runId}, 'notes', 'incomplete', false, 50, ${[TENANT]}, now())`;
  const retry = (tenant: string) => system.call('POST', `${RUNS}/${runId}/retry?tenantId=${tenant}`);

  expect((await retry(OTHER)).status).toBe(400);
  expect((await retry('acme')).status).toBe(400);
  expect((await retry(CAPITALS)).status).toBe(202);
  expect(await system.settled(runId)).toMatchObject({ status: 'succeeded', rows: { embedded: 1 } });
});

test.each(['', '&target=notes'])('the quarantine finds a tenant in any spelling: %s', async (query) => {
  await system.sql`
    INSERT INTO infill.quarantined_rows (target, row_id, tenant_id, text_hash, model, code)
    VALUES ('notes', '1', ${TENANT}, 'hash', 'm', 'input_rejected')`;

  const found = await system.call('GET', `${API}/quarantine?tenantId=${CAPITALS}${query}`);

  expect(found.body.items).toMatchObject([{ rowId: '1', tenantId: TENANT }]);
  const release = { tenantId: CAPITALS, ...(query !== '' && { target: 'notes' }) };
  expect((await system.call('POST', `${API}/quarantine/release`, jsonBody(release))).body).toEqual({
    released: 1,
  });
});
