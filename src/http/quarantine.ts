/** The routes of the quarantine: rows whose text a provider refuses. */
import { z } from 'zod';
import { recordAudit } from '../db/audit.ts';
import type { Db } from '../db/client.ts';
import { listQuarantined, type QuarantineFilter, releaseQuarantined } from '../db/quarantine.ts';
import { actorOf } from './auth.ts';
import { decodeCursor, pageOf } from './cursors.ts';
import { Problem } from './problems.ts';
import { requireServices } from './readiness.ts';
import type { AdminApp } from './server.ts';
import { type TenantIdDeps, tenantIdsIn, tenantSpellings } from './tenant-ids.ts';
import { wholeNumber } from './validation.ts';

export type QuarantineRoutesDeps = TenantIdDeps & { readonly db: Db };

const name = z.string().min(1).max(200);
const Filter = {
  target: name.optional(),
  tenantId: name.optional(),
  tenant: name.optional().describe('Another name of tenantId.'),
  code: name.optional(),
};
const rowIds = z.array(z.string().min(1).max(200)).min(1).max(10_000);
const RowCursor = z.strictObject({ target: z.string(), rowId: z.string() });

const QuarantinedShape = z.object({
  target: z.string(),
  rowId: z.string(),
  tenantId: z.string(),
  textHash: z.string().describe('SHA-256 of the refused text. Another text is tried again by itself.'),
  model: z.string(),
  code: z.string(),
  message: z.string().nullable().describe("The provider's code and words, cut to 500 characters."),
  runId: z.string().nullable(),
  quarantinedAt: z.string(),
});

/** Registers the routes under `/api/v1/admin`. */
export function quarantineRoutes(deps: QuarantineRoutesDeps) {
  const { db } = deps;
  return (app: AdminApp): void => {
    app.get(
      '/quarantine',
      {
        preHandler: requireServices(['postgres']),
        schema: {
          summary: 'List quarantined rows',
          querystring: z.object({
            ...Filter,
            limit: wholeNumber(1, 1_000).default(100),
            cursor: z.string().max(2_000).optional(),
          }),
          response: {
            200: z.object({ items: z.array(QuarantinedShape), nextCursor: z.string().nullable() }),
          },
        },
      },
      async ({ query: { limit, cursor, ...named } }) => {
        const filter = await inOwnSpelling(deps, filterOf(named));
        const after = decodeCursor(cursor, RowCursor);
        const found = await listQuarantined(db, filter, { after, limit: limit + 1 });
        const { page, nextCursor } = pageOf(found, limit, ({ target, rowId }) => ({ target, rowId }));
        return { items: page, nextCursor };
      },
    );
    releaseRoute(app, deps);
  };
}

function releaseRoute(app: AdminApp, deps: QuarantineRoutesDeps): void {
  const { db, targets } = deps;
  app.post(
    '/quarantine/release',
    {
      preHandler: requireServices(['postgres']),
      schema: {
        summary: 'Release quarantined rows: the next run tries them again',
        description:
          'Names the rows by `rowIds` and their `target` (which may be left out where there is only one), by a filter, or ' +
          'both; at least one of them, so that nobody releases all by mistake.',
        body: z.object({
          ...Filter,
          rowIds: rowIds.optional(),
          ids: rowIds.optional().describe('Another name of rowIds.'),
        }),
        response: { 200: z.object({ released: z.number() }) },
      },
    },
    async (request) => {
      const filter = await inOwnSpelling(deps, filterOf(request.body));
      if (Object.values(filter).every((value) => value === undefined)) {
        const message = 'must name at least one of rowIds, target, tenantId, code';
        throw new Problem('invalid_request', `The body ${message}.`, {
          errors: [{ field: 'body', message }],
        });
      }
      // Two tables may have rows of the same id.
      if (filter.rowIds !== undefined && filter.target === undefined && targets.size !== 1) {
        throw mistake('target', `must be named with rowIds: one of ${[...targets.keys()].join(', ')}`);
      }
      const actor = actorOf(request);
      const released = await db.transaction(async (tx) => {
        const count = await releaseQuarantined(tx as unknown as Db, filter);
        const details = { ...filter, released: count };
        await recordAudit(tx as unknown as Db, { actor, action: 'quarantine.released', details });
        return count;
      });
      return { released };
    },
  );
}

/** Rows are set aside with their tenant as its target's column writes it. */
async function inOwnSpelling(
  deps: QuarantineRoutesDeps,
  filter: QuarantineFilter,
): Promise<QuarantineFilter> {
  const { target, tenantId } = filter;
  if (tenantId === undefined) return filter;
  const [known] =
    target === undefined
      ? await tenantSpellings(deps, tenantId)
      : await tenantIdsIn(deps, target, [tenantId]);
  return { ...filter, tenantId: known };
}

type Named = QuarantineFilter & {
  readonly tenant?: string | undefined;
  readonly ids?: readonly string[] | undefined;
};

/** @throws {Problem} when something is given under both of its names. */
function filterOf({ tenant, ids, ...filter }: Named): QuarantineFilter {
  if (tenant !== undefined && filter.tenantId !== undefined)
    throw mistake('tenant', 'must not be given with tenantId');
  if (ids !== undefined && filter.rowIds !== undefined) throw mistake('ids', 'must not be given with rowIds');
  return { ...filter, tenantId: filter.tenantId ?? tenant, rowIds: filter.rowIds ?? ids };
}

function mistake(field: string, message: string): Problem {
  return new Problem('invalid_request', `${field} ${message}`, { errors: [{ field, message }] });
}
