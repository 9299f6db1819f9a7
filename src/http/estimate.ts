/** The route that says what filling a target would cost, and how long it would take. */
import { z } from 'zod';
import { costUsd, PRICES_AS_OF, tokensRange } from '../core/cost.ts';
import { type Credential, type StatedLimit, statedLimits } from '../core/credential.ts';
import { TIER_1 } from '../core/pacing-rules.ts';
import type { Target } from '../core/target.ts';
import type { KeyringOptions } from '../credentials/keyring.ts';
import { credentialFingerprint } from '../credentials/seal.ts';
import type { TargetState } from '../db/catalog.ts';
import type { Db } from '../db/client.ts';
import { listTenantsWithGaps, measureWork } from '../db/target-rows.ts';
import { type CredentialRecord, listCredentials } from '../db/tenant-credentials.ts';
import { Problem } from './problems.ts';
import { requireServices } from './readiness.ts';
import type { AdminApp } from './server.ts';

export type TargetRoutesDeps = {
  readonly db: Db;
  readonly inspect: (name: string) => Promise<TargetState | undefined>;
  readonly targets: ReadonlyMap<string, Target>;
  readonly keys: Pick<
    KeyringOptions,
    'platformKey' | 'defaultBaseUrl' | 'platformLimits' | 'platformApiKeyHeader' | 'platformHeaders'
  >;
  /** What a provider's answers have told of an account, by any worker. Rejects when it cannot be read now. */
  readonly learnedLimits: (holder: Holder, model: string) => Promise<LimitsKnown>;
  /** Share of tier 1 that an account may use before its answers have told its limits. */
  readonly startFraction: number;
};

/** The part of a credential that tells accounts apart. */
type Holder = Pick<Credential, 'baseUrl' | 'fingerprint' | 'organization'>;
/** Null where nobody has said. */
type LimitsKnown = { readonly requestsPerMinute: number | null; readonly tokensPerMinute: number | null };

/** Of a request, as a run packs them where nobody says otherwise. */
const ROWS_A_REQUEST = 50;
const CREDENTIALS_A_PAGE = 1_000;

const Range = z.object({ low: z.number(), high: z.number() });
const Limits = z
  .object({
    from: z
      .enum(['credential', 'provider', 'tier_1'])
      .describe(
        '`credential`: what is set for it, where the provider does not allow less. `provider`: what its answers have told. ' +
          '`tier_1`: nothing is known, so the share of tier 1 that an account begins with. Of several, the first of these.',
      ),
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
type LimitsByKey = { readonly platform: Limits; readonly own: ReadonlyMap<string, Limits> };
type Size = { readonly rows: number; readonly bytes: number };

type LimitsStated = Pick<Credential, 'requestsPerMinute' | 'tokensPerMinute'>;

/** Without a limit the rows take as long as the provider does, which nobody knows: it is reckoned as if nothing were stated. */
function numbersOf({ requestsPerMinute, tokensPerMinute }: LimitsStated): LimitsKnown {
  const known = (limit: StatedLimit) => (limit === 'unlimited' ? null : limit);
  return { requestsPerMinute: known(requestsPerMinute), tokensPerMinute: known(tokensPerMinute) };
}

const NOTHING_KNOWN: LimitsKnown = { requestsPerMinute: null, tokensPerMinute: null };

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
          "The time is by the limits that are known of a tenant's key; `limits` has them, and whence they are. In all it is " +
          "the time of the slowest key, whose limits are shown; tenants without one share the platform's. " +
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
      const work = await measureWork(deps.db, target, tenants);
      const limits = await readLimits(deps, target, new Set(work.map(({ tenantId }) => tenantId)));
      return {
        target: target.name,
        model: target.model,
        pricesAsOf: PRICES_AS_OF,
        ...totalOf(work, limits, target.model),
        tenants: work.map(({ tenantId, ...size }) => ({
          tenantId,
          ...estimateOf(size, limits.own.get(tenantId) ?? limits.platform, target.model),
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

/** What is known of the limits of the platform's key, and of those of `tenantIds` that have one of their own. */
async function readLimits(
  { db, keys, learnedLimits, startFraction }: TargetRoutesDeps,
  target: Target,
  tenantIds: ReadonlySet<string>,
): Promise<LimitsByKey> {
  // Without Redis nothing is known of what was learned, which does not keep anybody from an estimate.
  const limitsFor = async (holder: Holder, stated: LimitsStated) =>
    limitsOf(
      numbersOf(stated),
      await learnedLimits(holder, target.model).catch(() => NOTHING_KNOWN),
      startFraction,
    );

  const { platformKey, defaultBaseUrl: baseUrl } = keys;
  const platformLimits = statedLimits('platform', keys.platformLimits ?? NOTHING_KNOWN, target);
  const platform =
    platformKey === null
      ? limitsOf(NOTHING_KNOWN, NOTHING_KNOWN, startFraction)
      : limitsFor(
          { baseUrl, fingerprint: platformFingerprint(platformKey, keys), organization: null },
          platformLimits,
        );
  const credentials = await readCredentials(db, tenantIds);
  const own = credentials.map(
    async (one) =>
      [
        one.tenantId,
        await limitsFor({ ...one, baseUrl: one.baseUrl ?? baseUrl }, statedLimits('tenant', one, target)),
      ] as const,
  );
  return { platform: await platform, own: new Map(await Promise.all(own)) };
}

function platformFingerprint(apiKey: string, keys: TargetRoutesDeps['keys']): string {
  return credentialFingerprint({
    apiKey,
    apiKeyHeader: keys.platformApiKeyHeader,
    headers: keys.platformHeaders,
  });
}

async function readCredentials(db: Db, tenantIds: ReadonlySet<string>): Promise<CredentialRecord[]> {
  const found: CredentialRecord[] = [];
  for (let after = ''; ; ) {
    const page = await listCredentials(db, { after, limit: CREDENTIALS_A_PAGE });
    found.push(...page.filter(({ tenantId }) => tenantIds.has(tenantId)));
    const last = page.at(-1);
    if (page.length < CREDENTIALS_A_PAGE || last === undefined) return found;
    after = last.tenantId;
  }
}

/** By meter the smaller of what is set and what was learned; where nobody has said anything, what an account begins with. */
function limitsOf(fixed: LimitsKnown, learned: LimitsKnown, startFraction: number): Limits {
  const requests = meterOf(fixed.requestsPerMinute, learned.requestsPerMinute);
  const tokens = meterOf(fixed.tokensPerMinute, learned.tokensPerMinute);
  const sources = [requests.from, tokens.from];
  return {
    from: (['credential', 'provider'] as const).find((source) => sources.includes(source)) ?? 'tier_1',
    requestsPerMinute: requests.limit ?? TIER_1.requestsPerMinute * startFraction,
    tokensPerMinute: tokens.limit ?? TIER_1.tokensPerMinute * startFraction,
  };
}

function meterOf(
  fixed: number | null,
  learned: number | null,
): { from: Limits['from']; limit: number | null } {
  if (fixed !== null && (learned === null || fixed <= learned)) return { from: 'credential', limit: fixed };
  return { from: learned === null ? 'tier_1' : 'provider', limit: learned };
}

/** Credentials work side by side, so that the slowest decides on the time. */
function totalOf(
  work: readonly (Size & { readonly tenantId: string })[],
  limits: LimitsByKey,
  model: string,
): z.output<typeof Estimate> {
  const shared = sumOf(work.filter(({ tenantId }) => !limits.own.has(tenantId)));
  let slowest = estimateOf(shared, limits.platform, model);
  for (const { tenantId, ...size } of work) {
    const own = limits.own.get(tenantId);
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
