/** The route that says what filling a target would cost, and how long it would take. */
import { z } from 'zod';
import { costUsd, PRICES_AS_OF, tokensRange } from '../core/cost.ts';
import { TIER_1 } from '../core/pacing-rules.ts';
import type { Target } from '../core/target.ts';
import type { TargetState } from '../db/catalog.ts';
import type { Db } from '../db/client.ts';
import { listTenantsWithGaps, measureWork } from '../db/target-rows.ts';
import { listCredentials } from '../db/tenant-credentials.ts';
import { Problem } from './problems.ts';
import { requireServices } from './readiness.ts';
import type { AdminApp } from './server.ts';

export type TargetRoutesDeps = {
  readonly db: Db;
  readonly inspect: (name: string) => Promise<TargetState | undefined>;
  readonly targets: ReadonlyMap<string, Target>;
};

/** Of a request, as a run packs them where nobody says otherwise. */
const ROWS_A_REQUEST = 50;
const CREDENTIALS_A_PAGE = 1_000;

const Range = z.object({ low: z.number(), high: z.number() });
const Limits = z
  .object({
    from: z.enum(['credential', 'tier_1']),
    requestsPerMinute: z.number(),
    tokensPerMinute: z.number(),
  })
  .describe('What the time is reckoned by.');
const Estimate = z.object({
  rows: z.number(),
  tokens: Range,
  costUsd: Range.nullable(),
  seconds: Range,
  limits: Limits,
});

type Limits = z.output<typeof Limits>;
type Size = { readonly rows: number; readonly bytes: number };

const TIER_1_LIMITS: Limits = { from: 'tier_1', ...TIER_1 };

/** Adds the route under `/api/v1/admin`. */
export function estimateRoute(app: AdminApp, deps: TargetRoutesDeps): void {
  app.get(
    '/estimate',
    {
      preHandler: requireServices(['postgres']),
      schema: {
        summary: 'Estimate a run without calling the provider',
        description:
          'Rows, tokens, cost and time of filling all that is missing. Tokens are a range from the bytes of the texts. ' +
          "The time is the one that a tenant's credential allows, and tier 1 of OpenAI where that sets no limit; in all it " +
          "is the time of the slowest credential, whose limits are shown, and tenants without one share the platform's. " +
          `Prices as of ${PRICES_AS_OF}.`,
        querystring: z.object({ target: z.string().min(1).max(100).optional() }),
        response: {
          200: Estimate.extend({
            target: z.string(),
            model: z.string(),
            pricesAsOf: z.string(),
            tenants: z.array(Estimate.extend({ tenantId: z.string() })),
          }),
        },
      },
    },
    async ({ query }) => {
      const { target } = await readyTarget(deps, query.target);
      const tenants = await listTenantsWithGaps(deps.db, target, null);
      const [work, limits] = [await measureWork(deps.db, target, tenants), await readLimits(deps.db)];
      return {
        target: target.name,
        model: target.model,
        pricesAsOf: PRICES_AS_OF,
        ...totalOf(work, limits, target.model),
        tenants: work.map(({ tenantId, ...size }) => ({
          tenantId,
          ...estimateOf(size, limits.get(tenantId) ?? TIER_1_LIMITS, target.model),
        })),
      };
    },
  );
}

/** @throws {Problem} when the target is unknown, absent or not as described. */
async function readyTarget({ inspect, targets }: TargetRoutesDeps, given: string | undefined) {
  const known = [...targets.keys()];
  const name = given ?? known[0];
  const state = name === undefined ? undefined : await inspect(name);
  if (state === undefined) {
    const message = `must be one of ${known.join(', ')}`;
    throw new Problem('invalid_request', `target ${message}`, { errors: [{ field: 'target', message }] });
  }
  if (state.kind !== 'ready') throw new Problem('target_not_ready', state.detail);
  return state;
}

/** The limits of every tenant that has a credential of its own. */
async function readLimits(db: Db): Promise<Map<string, Limits>> {
  const limits = new Map<string, Limits>();
  for (let after = ''; ; ) {
    const page = await listCredentials(db, { after, limit: CREDENTIALS_A_PAGE });
    for (const { tenantId, requestsPerMinute, tokensPerMinute } of page) {
      limits.set(tenantId, {
        from: requestsPerMinute === null && tokensPerMinute === null ? 'tier_1' : 'credential',
        requestsPerMinute: requestsPerMinute ?? TIER_1.requestsPerMinute,
        tokensPerMinute: tokensPerMinute ?? TIER_1.tokensPerMinute,
      });
    }
    const last = page.at(-1);
    if (page.length < CREDENTIALS_A_PAGE || last === undefined) return limits;
    after = last.tenantId;
  }
}

/** Credentials work side by side, so that the slowest decides on the time. */
function totalOf(
  work: readonly (Size & { readonly tenantId: string })[],
  limits: ReadonlyMap<string, Limits>,
  model: string,
): z.output<typeof Estimate> {
  const shared = sumOf(work.filter(({ tenantId }) => !limits.has(tenantId)));
  let slowest = estimateOf(shared, TIER_1_LIMITS, model);
  for (const { tenantId, ...size } of work) {
    const own = limits.get(tenantId);
    const estimate = own === undefined ? undefined : estimateOf(size, own, model);
    if (estimate !== undefined && estimate.seconds.high > slowest.seconds.high) slowest = estimate;
  }
  const { seconds, limits: shown } = slowest;
  return { ...estimateOf(sumOf(work), shown, model), seconds };
}

function sumOf(sizes: readonly Size[]): Size {
  return sizes.reduce((sum, { rows, bytes }) => ({ rows: sum.rows + rows, bytes: sum.bytes + bytes }), {
    rows: 0,
    bytes: 0,
  });
}

function estimateOf({ rows, bytes }: Size, limits: Limits, model: string): z.output<typeof Estimate> {
  const tokens = tokensRange(bytes);
  const low = costUsd(model, tokens.low);
  const high = costUsd(model, tokens.high);
  const requestMinutes = Math.ceil(rows / ROWS_A_REQUEST) / limits.requestsPerMinute;
  const seconds = (count: number) => Math.ceil(60 * Math.max(requestMinutes, count / limits.tokensPerMinute));
  return {
    rows,
    tokens,
    costUsd: low === null || high === null ? null : { low, high },
    seconds: { low: seconds(tokens.low), high: seconds(tokens.high) },
    limits,
  };
}
