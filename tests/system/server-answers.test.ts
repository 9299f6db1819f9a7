import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type OddServers, startOddServers } from '../../dev/openai-server/odd-servers.ts';
import type { ServerKind } from '../support/server-kind.ts';
import { SERVER_FORMS } from '../support/server-kinds.ts';
import { SERVER_TROUBLES } from '../support/server-troubles.ts';
import {
  ALL_ATTEMPTS_MS,
  DIMENSIONS,
  type Json,
  jsonBody,
  MODEL,
  type System,
  startSystem,
  wrongRows,
} from '../support/system.ts';

const SERVER_KINDS = [...SERVER_FORMS, ...SERVER_TROUBLES];

let servers: OddServers;
let system: System;
let run: Json;
let tenants: Json[];

const tenantOf = (kind: ServerKind) => `kind-${SERVER_KINDS.indexOf(kind)}`;
const textsOf = ({ texts, rows = 40 }: ServerKind) =>
  texts ?? Array.from({ length: rows }, (_, index) => `note ${index} of a tenant`);

beforeAll(async () => {
  servers = await startOddServers({
    habits: Object.fromEntries(SERVER_KINDS.map((kind) => [tenantOf(kind), kind.habits])),
    dimensions: DIMENSIONS,
    model: MODEL,
  });
  const urls = SERVER_KINDS.map((kind) => `${servers.urlOf(tenantOf(kind))}${kind.query ?? ''}`);
  system = await startSystem({
    env: { ALLOWED_BASE_URLS: urls.join(','), BREAKER_OPEN_MS: '100', BREAKER_OPEN_MAX_MS: '200' },
  });
  for (const [index, kind] of SERVER_KINDS.entries()) {
    const tenant = tenantOf(kind);
    const body = { apiKey: `sk-key-of-${tenant}-000000`, baseUrl: urls[index], ...kind.credential };
    const put = await system.call(
      'PUT',
      `/api/v1/admin/tenants/${tenant}/credential?check=false`,
      jsonBody(body),
    );
    if (put.status !== 200) throw new Error(JSON.stringify(put.body));
    await system.addRows(textsOf(kind).map((text) => ({ tenant, text })));
  }
  const started = await system.call('POST', '/api/v1/admin/backfill-embeddings?batchSize=50');
  run = await system.settled(started.body.runId, ALL_ATTEMPTS_MS);
  tenants = await system.listed(run.runId, 'tenants');
}, ALL_ATTEMPTS_MS + 60_000);
afterAll(async () => {
  await system?.close();
  await servers?.close();
});

describe('a server whose habit is', () => {
  test.each(SERVER_KINDS.map((kind) => [kind.kind, kind] as const))('%s', async (_name, kind) => {
    const tenant = tenantOf(kind);
    const part = tenants.find(({ tenantId }) => tenantId === tenant);
    const calls = servers.callsOf(tenant);
    const said = `${JSON.stringify(part)} calls: ${calls.length} ${JSON.stringify(calls.map(({ texts, status }) => `${texts.length}:${status}`))}`;
    const rows = (await system.rows()).filter(({ tenant_id }) => tenant_id === tenant);
    const wrong = wrongRows(rows).map(({ content }) => content ?? '');

    expect(calls.length, said).toBeLessThanOrEqual(kind.callsMax ?? 3 * textsOf(kind).length + 20);
    if (kind.stops !== undefined) {
      expect(part.reason, said).toMatch(kind.stops);
      expect(wrong, said).toHaveLength(rows.length);
      return;
    }
    const left = kind.quarantined ?? kind.failed;
    expect(wrong, said).toEqual(
      textsOf(kind).filter((text) => left !== undefined && text.includes(left.marker)),
    );
    expect(part.status, said).toBe(left === undefined ? 'succeeded' : 'incomplete');
    if (kind.failed !== undefined) expect(part.reason, said).toContain(kind.failed.code);
    if (kind.quarantined === undefined) return;
    const aside =
      await system.sql`SELECT code, message FROM infill.quarantined_rows WHERE tenant_id = ${tenant}`;
    expect(aside, said).toHaveLength(wrong.length);
    for (const { code, message } of aside) {
      expect(code).toBe('input_rejected');
      expect(message).toMatch(kind.quarantined.words);
    }
  });
});
