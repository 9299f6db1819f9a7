/** The routes of one target: what is there and what is missing, and to declare right what nobody has verified. */
import { z } from 'zod';
import { adoptRows } from '../db/adopt.ts';
import { recordAudit } from '../db/audit.ts';
import type { CheckedTarget } from '../db/catalog.ts';
import { countCoverage } from '../db/coverage.ts';
import { actorOf } from './auth.ts';
import { CoverageShape } from './coverage-shape.ts';
import type { TargetRoutesDeps } from './estimate.ts';
import { Problem } from './problems.ts';
import { requireServices } from './readiness.ts';
import type { AdminApp } from './server.ts';
import { tenantIdsOf } from './tenant-ids.ts';
import { repeated } from './validation.ts';

const TENANTS_MAX = 1_000;
/** Longest that one call adopts. Whoever has more rows calls again. */
const ADOPT_MS_MAX = 20_000;

const TargetParams = z.object({ name: z.string().min(1).max(100) });
const TenantsQuery = z.object({
  tenantId: repeated(z.string().min(1).max(200), TENANTS_MAX).describe('Only these tenants. Repeatable.'),
});
const Covered = CoverageShape.extend({ target: z.string(), tenantIds: z.array(z.string()).nullable() });

/** Adds the route under `/api/v1/admin`. */
export function coverageRoute(app: AdminApp, deps: TargetRoutesDeps): void {
  app.get(
    '/targets/:name/coverage',
    {
      preHandler: requireServices(['postgres']),
      schema: {
        summary: "Count a target's rows by what can be said of their embedding",
        params: TargetParams,
        querystring: TenantsQuery,
        response: { 200: Covered },
      },
    },
    async ({ params, query }) => {
      const target = await namedTarget(deps, params.name);
      const tenantIds = scopeOf(target, query.tenantId);
      return { target: target.name, tenantIds, ...(await countCoverage(deps.db, target, tenantIds)) };
    },
  );
}

/** Adds the route under `/api/v1/admin`. */
export function adoptRoute(app: AdminApp, deps: TargetRoutesDeps): void {
  app.post(
    '/targets/:name/adopt',
    {
      preHandler: requireServices(['postgres']),
      schema: {
        summary: 'Declare right the embeddings that have no stamp',
        description:
          'Writes the stamp of the present text and model beside each embedding that has none. The vectors stay, and the provider ' +
          'is not called. Works for at most 20 seconds: call again while `unverified` is above 0.',
        params: TargetParams,
        querystring: TenantsQuery,
        response: { 200: Covered.extend({ adopted: z.number() }) },
      },
    },
    async (request) => {
      const { db } = deps;
      const target = await namedTarget(deps, request.params.name);
      if (target.stamp === undefined) {
        const detail = `Target "${target.name}" names no column as its stamp, so that there is nothing to adopt.`;
        throw new Problem('conflict', detail);
      }
      const tenantIds = scopeOf(target, request.query.tenantId);
      const adopted = await adoptRows(db, target, tenantIds, Date.now() + ADOPT_MS_MAX);
      const details = { tenantIds, adopted };
      await recordAudit(db, {
        actor: actorOf(request),
        action: 'target.adopted',
        subject: target.name,
        details,
      });
      return { target: target.name, tenantIds, adopted, ...(await countCoverage(db, target, tenantIds)) };
    },
  );
}

/** @throws {Problem} when the target is unknown, absent or not as described. */
async function namedTarget({ inspect, targets }: TargetRoutesDeps, name: string): Promise<CheckedTarget> {
  const state = await inspect(name);
  if (state === undefined) {
    const known = [...targets.keys()].join(', ');
    throw new Problem('not_found', `There is no target "${name}"; there are: ${known}.`);
  }
  if (state.kind === 'ready') return state.target;
  throw new Problem('target_not_ready', state.detail, { extras: { targetState: state.kind } });
}

function scopeOf(target: CheckedTarget, tenantIds: readonly string[]): string[] | null {
  return tenantIds.length === 0 ? null : tenantIdsOf(target, tenantIds);
}
