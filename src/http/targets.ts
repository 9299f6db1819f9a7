/** The route of targets: what is there and what is missing. */
import { z } from 'zod';
import type { Target } from '../core/target.ts';
import { countCoverage } from '../db/coverage.ts';
import { CoverageShape } from './coverage-shape.ts';
import { estimateRoute, type TargetRoutesDeps } from './estimate.ts';
import { historyRoute } from './history.ts';
import { requireServices } from './readiness.ts';
import type { AdminApp } from './server.ts';
import { adoptRoute, coverageRoute } from './target-coverage.ts';

const TargetShape = z.object({
  name: z.string(),
  state: z.enum(['ready', 'absent', 'mismatch']),
  detail: z.string().nullable(),
  table: z.string(),
  model: z.string(),
  dimensions: z.number(),
  coverage: CoverageShape.nullable(),
  missingIndex: z
    .boolean()
    .nullable()
    .describe('Whether the index that finds missing rows quickly is there.'),
  missingIndexDdl: z.string().nullable().describe('The statement that creates it, when it is not.'),
  where: z.string().nullable().describe('The condition that rows have to meet, if the target has one.'),
  stamp: z
    .string()
    .nullable()
    .describe('The column that says which text and model each vector is of, if the target has one.'),
  stampDdl: z.string().nullable().describe('The statement that adds that column, when it is not there.'),
});

/** Registers the routes under `/api/v1/admin`. */
export function targetRoutes(deps: TargetRoutesDeps) {
  return (app: AdminApp): void => {
    app.get(
      '/targets',
      {
        preHandler: requireServices(['postgres']),
        schema: {
          summary: 'List targets with their coverage',
          response: { 200: z.object({ items: z.array(TargetShape) }) },
        },
      },
      async () => ({
        items: await Promise.all([...deps.targets.values()].map((target) => describe(deps, target))),
      }),
    );
    coverageRoute(app, deps);
    adoptRoute(app, deps);
    estimateRoute(app, deps);
    historyRoute(app, deps);
  };
}

async function describe(
  { db, inspect }: TargetRoutesDeps,
  target: Target,
): Promise<z.output<typeof TargetShape>> {
  const state = await inspect(target.name);
  const { name, schema, table, model, dimensions } = target;
  const known = {
    name,
    table: `${schema}.${table}`,
    model,
    dimensions,
    where: target.where ?? null,
    stamp: target.stamp ?? null,
    stampDdl: null,
  };
  if (state?.kind !== 'ready') {
    const { kind, detail } = state ?? { kind: 'absent' as const, detail: null };
    const stampDdl = (state?.kind === 'mismatch' && state.stampDdl) || null;
    return {
      ...known,
      stampDdl,
      state: kind,
      detail,
      coverage: null,
      missingIndex: null,
      missingIndexDdl: null,
    };
  }
  const { hasMissingIndex, missingIndexDdl } = state.target;
  return {
    ...known,
    state: 'ready',
    detail: null,
    coverage: await countCoverage(db, state.target, null),
    missingIndex: hasMissingIndex,
    missingIndexDdl: hasMissingIndex ? null : missingIndexDdl,
  };
}
