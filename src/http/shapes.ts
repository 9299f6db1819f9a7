/** The JSON shapes of the API and how records become them. */
import { z } from 'zod';
import { etaSeconds, progressPercent } from '../core/progress.ts';
import { isSettled, RUN_ORIGINS, RUN_STATUSES, RUN_TENANT_STATUSES, type RunStatus } from '../core/run.ts';
import { runMessage } from '../core/run-message.ts';
import type { RunTenantRecord } from '../db/run-tenants.ts';
import type { RunRecord } from '../db/runs.ts';
import { CoverageShape } from './coverage-shape.ts';

export const RowsShape = z.object({
  planned: z
    .number()
    .describe(
      'Missing rows that the run set out to fill: all that were counted when it was planned, or as many as its limit allows.',
    ),
  embedded: z.number().describe('Written, or in a dry run what would have been.'),
  superseded: z
    .number()
    .describe('Times that a text had changed before its vector was written; the next pass takes the row up.'),
  gone: z.number().describe('Deleted before their vector was written.'),
  quarantined: z.number().describe('Refused by the provider, and set aside.'),
  failed: z.number().describe('Given up for now; a retry tries them again.'),
  remaining: z.number().nullable().describe('Still missing by the last count.'),
});

export const RunShape = z.object({
  runId: z.string(),
  target: z.string(),
  status: z.enum(RUN_STATUSES as [RunStatus, ...RunStatus[]]),
  reason: z.string().nullable(),
  message: z.string(),
  dryRun: z.boolean(),
  batchSize: z.number(),
  includeUnverified: z.boolean().describe('Whether rows that have an embedding and no stamp are work, too.'),
  origin: z.enum(RUN_ORIGINS),
  limit: z.number().nullable(),
  tenantIds: z.array(z.string()).nullable(),
  maxTokens: z.number().nullable(),
  maxCostUsd: z.number().nullable(),
  window: z.number().nullable(),
  generation: z.number(),
  progress: z.number().min(0).max(100),
  rows: RowsShape,
  requests: z.number(),
  tokens: z.number(),
  costUsd: z.number().nullable(),
  etaSeconds: z.number().nullable(),
  tenants: z.object({ total: z.number(), settled: z.number() }),
  coverage: z.object({ before: CoverageShape.nullable(), after: CoverageShape.nullable() }),
  createdAt: z.string(),
  startedAt: z.string().nullable(),
  settledAt: z.string().nullable(),
  links: z.object({ self: z.string(), tenants: z.string(), rows: z.string(), board: z.string() }),
});

export const TenantShape = z.object({
  tenantId: z.string(),
  status: z.enum(RUN_TENANT_STATUSES),
  reason: z.string().nullable(),
  rows: RowsShape,
  requests: z.number(),
  tokens: z.number(),
  costUsd: z.number().nullable(),
});

/** An id of a run, as Postgres takes it: any UUID, not only those of a known version. */
export const RunId = z.guid();

export function isRunId(text: string): boolean {
  return RunId.safeParse(text).success;
}

export const BACKFILLS_PATH = '/api/v1/admin/backfill-embeddings';

/** The run as the API shows it. `nowMs` is the clock that the time left is reckoned by. */
export function runShape(run: RunRecord, nowMs: number = Date.now()): z.output<typeof RunShape> {
  const settled = isSettled(run.status);
  const counts = { ...run, planned: run.planned ?? 0 };
  const startedAtMs = run.startedAt === null ? null : Date.parse(run.startedAt);
  const self = `${BACKFILLS_PATH}/${run.runId}`;
  return {
    runId: run.runId,
    target: run.target,
    status: run.status,
    reason: run.reason,
    message: runMessage(run),
    dryRun: run.dryRun,
    batchSize: run.batchSize,
    includeUnverified: run.includeUnverified,
    origin: run.origin,
    limit: run.rowLimit,
    tenantIds: run.tenantIds === null ? null : [...run.tenantIds],
    maxTokens: run.maxTokens,
    maxCostUsd: run.maxCostUsd,
    window: run.window,
    generation: run.generation,
    progress: progressPercent(counts, settled),
    rows: {
      planned: counts.planned,
      embedded: run.embedded,
      superseded: run.superseded,
      gone: run.gone,
      quarantined: run.quarantined,
      failed: run.failed,
      remaining: run.remaining,
    },
    requests: run.requests,
    tokens: run.tokens,
    costUsd: run.costUsd,
    etaSeconds: settled ? 0 : etaSeconds(counts, startedAtMs, nowMs),
    tenants: { total: run.tenantsTotal, settled: run.tenantsSettled },
    coverage: { before: run.coverageBefore, after: run.coverageAfter },
    createdAt: run.createdAt,
    startedAt: run.startedAt,
    settledAt: run.settledAt,
    links: { self, tenants: `${self}/tenants`, rows: `${self}/rows`, board: `/admin/runs/${run.runId}` },
  };
}

export function tenantShape(part: RunTenantRecord): z.output<typeof TenantShape> {
  const { planned, embedded, superseded, gone, quarantined, failed, remaining } = part;
  return {
    tenantId: part.tenantId,
    status: part.status,
    reason: part.reason,
    rows: { planned, embedded, superseded, gone, quarantined, failed, remaining },
    requests: part.requests,
    tokens: part.tokens,
    costUsd: part.costUsd,
  };
}
