/** The routes of budgets and of what was spent. */
import { z } from 'zod';
import { budgetReached } from '../core/budget.ts';
import { recordAudit } from '../db/audit.ts';
import {
  type BudgetRecord,
  deleteBudget,
  listUsage,
  putBudget,
  readBudget,
  readUsageTotals,
} from '../db/budgets.ts';
import type { Db } from '../db/client.ts';
import { actorOf } from './auth.ts';
import { decodeCursor, pageOf } from './cursors.ts';
import { Problem } from './problems.ts';
import { requireServices } from './readiness.ts';
import type { AdminApp } from './server.ts';
import { storedTenantId, type TenantIdDeps, tenantSpellings } from './tenant-ids.ts';
import { repeated, wholeNumber } from './validation.ts';

export type BudgetRoutesDeps = TenantIdDeps & { readonly db: Db };

const TOKENS_MAX = 1_000_000_000_000;
const COST_USD_MAX = 1_000_000;
const TENANTS_MAX = 1_000;
const MONTH = /^2\d{3}-(0[1-9]|1[0-2])$/;

const TenantParams = z.object({ tenantId: z.string().min(1).max(200) });

const BudgetBody = z.object({
  maxTokens: z
    .int()
    .min(1)
    .max(TOKENS_MAX)
    .nullish()
    .describe('Tokens in a month. null or left out: no cap.'),
  maxCostUsd: z
    .number()
    .positive()
    .max(COST_USD_MAX)
    .nullish()
    .describe(
      'US dollars in a month, where the price of the model is known. null or left out: no cap. One of the two is needed.',
    ),
});

const BudgetShape = z.object({
  tenantId: z.string(),
  maxTokens: z.number().nullable(),
  maxCostUsd: z.number().nullable(),
  month: z.string().describe('The present month, in UTC.'),
  tokens: z.number().describe('Spent in it, over all targets.'),
  costUsd: z.number(),
  rowsInHand: z.number().describe('Rows that are admitted and not done: what they take is reserved.'),
  status: z.enum(['open', 'reached']),
  reason: z.string().nullable(),
  updatedAt: z.string(),
});

const UsageFigures = {
  month: z.string(),
  requests: z.number(),
  tokens: z.number(),
  costUsd: z.number().nullable(),
  rows: z.number(),
};
const UsageShape = z.object({
  month: z.string(),
  items: z.array(
    z.object({
      tenantId: z.string(),
      target: z.string(),
      ...UsageFigures,
      budget: z
        .object({ maxTokens: z.number().nullable(), maxCostUsd: z.number().nullable() })
        .nullable()
        .describe("The tenant's monthly budget, over all targets."),
    }),
  ),
  totals: z.object(UsageFigures),
  nextCursor: z.string().nullable(),
});

/** Registers the routes under `/api/v1/admin`. */
export function budgetRoutes(deps: BudgetRoutesDeps) {
  return (app: AdminApp): void => {
    putRoute(app, deps);
    readRoutes(app, deps);
    usageRoute(app, deps);
  };
}

function putRoute(app: AdminApp, deps: BudgetRoutesDeps): void {
  const { db } = deps;
  app.put(
    '/tenants/:tenantId/budget',
    {
      preHandler: requireServices(['postgres']),
      schema: {
        summary: "Set a tenant's monthly budget",
        description:
          'Replaces the budget as a whole. When it is used up, the rows that are left wait with the reason `budget_reached`; a ' +
          'run follows by itself in the next month (UTC), or when the cap is raised.',
        params: TenantParams,
        body: BudgetBody,
        response: { 200: BudgetShape },
      },
    },
    async (request) => {
      const { maxTokens = null, maxCostUsd = null } = request.body;
      if (maxTokens === null && maxCostUsd === null) {
        const message = 'or maxCostUsd must be given: a budget needs a cap. To remove it, use DELETE';
        throw new Problem('invalid_request', `maxTokens ${message}`, {
          errors: [{ field: 'maxTokens', message }],
        });
      }
      const tenantId = await storedTenantId(deps, request.params.tenantId, 'tenantId');
      await db.transaction(async (tx) => {
        await putBudget(tx as unknown as Db, tenantId, { maxTokens, maxCostUsd });
        await recordAudit(tx as unknown as Db, {
          actor: actorOf(request),
          action: 'budget.set',
          subject: tenantId,
          details: { maxTokens, maxCostUsd },
        });
      });
      return existingBudget(deps, tenantId);
    },
  );
}

function readRoutes(app: AdminApp, deps: BudgetRoutesDeps): void {
  const { db } = deps;
  app.get(
    '/tenants/:tenantId/budget',
    {
      preHandler: requireServices(['postgres']),
      schema: {
        summary: "Show a tenant's budget and what this month has used of it",
        params: TenantParams,
        response: { 200: BudgetShape },
      },
    },
    async (request) => existingBudget(deps, request.params.tenantId),
  );
  app.delete(
    '/tenants/:tenantId/budget',
    {
      preHandler: requireServices(['postgres']),
      schema: {
        summary: "Remove a tenant's budget",
        description:
          'The tenant may then spend without a cap. What was spent stays in the ledger. May be repeated.',
        params: TenantParams,
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      for (const tenantId of await tenantSpellings(deps, request.params.tenantId)) {
        await db.transaction(async (tx) => {
          if (!(await deleteBudget(tx as unknown as Db, tenantId))) return;
          const event = { actor: actorOf(request), action: 'budget.removed', subject: tenantId };
          await recordAudit(tx as unknown as Db, event);
        });
      }
      return reply.code(204).send(null);
    },
  );
}

async function existingBudget(deps: BudgetRoutesDeps, given: string): Promise<z.output<typeof BudgetShape>> {
  for (const tenantId of await tenantSpellings(deps, given)) {
    const budget = await readBudget(deps.db, tenantId);
    if (budget !== undefined) return budgetShape(budget);
  }
  throw new Problem('not_found', `Tenant "${given}" has no budget.`);
}

function budgetShape(budget: BudgetRecord): z.output<typeof BudgetShape> {
  const reason = budgetReached(budget);
  return { ...budget, status: reason === null ? 'open' : 'reached', reason };
}

function usageRoute(app: AdminApp, { db }: BudgetRoutesDeps): void {
  app.get(
    '/usage',
    {
      preHandler: requireServices(['postgres']),
      schema: {
        summary: 'List what was spent in a month, by tenant and target',
        description: 'From the ledger, which outlives the runs. Dry runs count: they are paid for, too.',
        querystring: z.object({
          month: z
            .string()
            .regex(MONTH, { error: 'must be a month such as 2026-11' })
            .optional()
            .describe('In UTC. Default: the present one.'),
          target: z.string().min(1).max(100).optional(),
          tenantId: repeated(z.string().min(1).max(200), TENANTS_MAX),
          limit: wholeNumber(1, 1_000).default(100),
          cursor: z.string().max(2_000).optional(),
        }),
        response: { 200: UsageShape },
      },
    },
    async ({ query: { month = null, target = null, tenantId, limit, cursor } }) => {
      const filter = { month, target, tenantIds: tenantId.length === 0 ? null : tenantId };
      const after = decodeCursor(cursor, z.strictObject({ tenantId: z.string(), target: z.string() }));
      const totals = await readUsageTotals(db, filter);
      const found = await listUsage(db, filter, { after, limit: limit + 1 });
      const { page, nextCursor } = pageOf(found, limit, (one) => ({
        tenantId: one.tenantId,
        target: one.target,
      }));
      const items = page.map(({ maxTokens, maxCostUsd, ...figures }) => ({
        ...figures,
        month: totals.month,
        budget: maxTokens === null && maxCostUsd === null ? null : { maxTokens, maxCostUsd },
      }));
      return { month: totals.month, items, totals, nextCursor };
    },
  );
}
