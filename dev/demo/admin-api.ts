import type { z } from 'zod';
import type { RunShape, TenantShape } from '../../src/http/shapes.ts';
import { DemoFailure } from './failure.ts';

export type Run = z.output<typeof RunShape>;
export type RunTenant = z.output<typeof TenantShape>;

/** The routes of the admin API that the demo uses, called as anybody would. Each throws a `DemoFailure` when refused. */
export type AdminApi = {
  startRun(query: Readonly<Record<string, string>>): Promise<Run>;
  run(runId: string): Promise<Run>;
  tenants(runId: string): Promise<RunTenant[]>;
  storeKey(tenantId: string, apiKey: string): Promise<void>;
};

export const BACKFILLS = '/api/v1/admin/backfill-embeddings';
const ANSWER_TIMEOUT_MS = 30_000;

export function adminApi(url: string, adminSecret: string): AdminApi {
  async function call(method: string, path: string, body?: object): Promise<unknown> {
    const answer = await fetch(`${url}${path}`, {
      method,
      headers: {
        'x-admin-secret': adminSecret,
        'x-actor': 'demo',
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
    }).catch((error: Error) => {
      throw new DemoFailure(`${method} ${path} got no answer: ${error.message}`);
    });
    const said = (await answer.json()) as { detail?: string; title?: string };
    if (answer.ok) return said;
    throw new DemoFailure(
      `${method} ${path} was answered ${answer.status}: ${said.detail ?? said.title ?? ''}`,
    );
  }

  return {
    startRun: async (query) => (await call('POST', `${BACKFILLS}?${new URLSearchParams(query)}`)) as Run,
    run: async (runId) => (await call('GET', `${BACKFILLS}/${runId}`)) as Run,
    tenants: async (runId) =>
      ((await call('GET', `${BACKFILLS}/${runId}/tenants`)) as { items: RunTenant[] }).items,
    storeKey: async (tenantId, apiKey) => {
      await call('PUT', `/api/v1/admin/tenants/${encodeURIComponent(tenantId)}/credential`, { apiKey });
    },
  };
}
