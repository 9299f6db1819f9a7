import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type OddServers, startOddServers } from '../../dev/openai-server/odd-servers.ts';
import { type InventedServer, inventedServer, MARKER } from '../support/invented-servers.ts';
import {
  DIMENSIONS,
  type Json,
  jsonBody,
  MODEL,
  type System,
  startSystem,
  wrongRows,
} from '../support/system.ts';

const SERVERS = 80;
const SETTLED_MS_MAX = 60_000;
/** Another one each time; a failure names it. */
const SEED = Math.floor(Date.now() / 60_000) % 1_000_000;

const invented = fc.sample(inventedServer, { numRuns: SERVERS, seed: SEED });
const tenantOf = (index: number) => `invented-${index}`;
const isBad = ({ badEvery, habits }: InventedServer, row: number) =>
  badEvery > 0 && habits.rows !== undefined && row % badEvery === badEvery - 1;
const textsOf = (server: InventedServer) =>
  Array.from({ length: server.rows }, (_, row) => `note ${row}${isBad(server, row) ? ` ${MARKER}` : ''}`);

let servers: OddServers;
let system: System;
let run: Json;
let quarantined: ReadonlySet<string>;

beforeAll(async () => {
  servers = await startOddServers({
    habits: Object.fromEntries(invented.map(({ habits }, index) => [tenantOf(index), habits])),
    dimensions: DIMENSIONS,
    model: MODEL,
  });
  const urls = invented.map((_, index) => servers.urlOf(tenantOf(index)));
  system = await startSystem({
    env: { ALLOWED_BASE_URLS: urls.join(','), BREAKER_OPEN_MS: '100', BREAKER_OPEN_MAX_MS: '200' },
  });
  for (const [index, server] of invented.entries()) {
    const tenant = tenantOf(index);
    const body = { apiKey: `sk-key-of-${tenant}-000000`, baseUrl: urls[index] };
    await system.call('PUT', `/api/v1/admin/tenants/${tenant}/credential?check=false`, jsonBody(body));
    await system.addRows(textsOf(server).map((text) => ({ tenant, text })));
  }
  const started = await system.call('POST', '/api/v1/admin/backfill-embeddings?batchSize=50');
  // What does not settle is told of its server.
  run = await system.settled(started.body.runId, SETTLED_MS_MAX).catch(() => system.run(started.body.runId));
  const aside = await system.sql<{ id: string }[]>`SELECT row_id AS id FROM infill.quarantined_rows`;
  quarantined = new Set(aside.map(({ id }) => String(id)));
}, SETTLED_MS_MAX + 60_000);
afterAll(async () => {
  await system?.close();
  await servers?.close();
});

test.each(invented.map((server, index) => [index, server] as const))(
  `invariant: each run settles, in at most 3 N + 20 calls, and no right row is set aside (seed ${SEED}, server %i)`,
  async (index, server) => {
    const tenant = tenantOf(index);
    const calls = servers.callsOf(tenant);
    const rows = (await system.rows()).filter(({ tenant_id }) => tenant_id === tenant);
    const parts = await system.listed(run.runId, 'tenants');
    const part = parts.find(({ tenantId }) => tenantId === tenant);
    const said = JSON.stringify({
      server,
      part,
      calls: calls.map(({ texts, status }) => `${texts.length}:${status}`).join(' '),
    });

    const wrong = wrongRows(rows).map(({ content }) => content ?? '');
    const aside = rows.filter(({ id }) => quarantined.has(String(id))).map(({ content }) => content ?? '');

    expect(part.status, said).not.toBe('running');
    expect(
      aside.filter((text) => !text.includes(MARKER)),
      said,
    ).toEqual([]);
    expect(
      wrong.filter((text) => !text.includes(MARKER)),
      said,
    ).toEqual([]);
    expect(calls.length, said).toBeLessThanOrEqual(3 * server.rows + 20);
  },
);
