/** The route of a target's history. */
import { z } from 'zod';
import type { Target } from '../core/target.ts';
import type { Db } from '../db/client.ts';
import { listSamples, readGapSince } from '../db/samples.ts';
import { CoverageShape } from './coverage-shape.ts';
import { Problem } from './problems.ts';
import { requireServices } from './readiness.ts';
import type { AdminApp } from './server.ts';
import { wholeNumber } from './validation.ts';

export type HistoryRouteDeps = { readonly db: Db; readonly targets: ReadonlyMap<string, Target> };

const DAYS = 24;
const HOURS_DEFAULT = 7 * DAYS;
const HOURS_MAX = 90 * DAYS;

const HistoryShape = z.object({
  target: z.string(),
  gapSince: z
    .string()
    .nullable()
    .describe(
      'Since when rows have been missing without a break, as far as samples and the watch have seen.',
    ),
  items: z
    .array(CoverageShape.extend({ at: z.string() }))
    .describe(
      'The oldest first: one every five minutes, after two days one an hour, after two weeks one a day.',
    ),
});

/** Registers the route under `/api/v1/admin`. */
export function historyRoute(app: AdminApp, { db, targets }: HistoryRouteDeps): void {
  app.get(
    '/targets/:name/history',
    {
      preHandler: requireServices(['postgres']),
      schema: {
        summary: "Show how a target's coverage has been",
        description: 'From samples that a worker takes; asking for it counts nothing.',
        params: z.object({ name: z.string().min(1).max(100) }),
        querystring: z.object({
          hours: wholeNumber(1, HOURS_MAX).default(HOURS_DEFAULT).describe('How far to look back.'),
        }),
        response: { 200: HistoryShape },
      },
    },
    async ({ params: { name }, query: { hours } }) => {
      if (!targets.has(name)) {
        const known = [...targets.keys()].join(', ');
        throw new Problem('not_found', `There is no target "${name}". The targets are: ${known}.`);
      }
      const [items, gapSince] = await Promise.all([listSamples(db, name, hours), readGapSince(db, name)]);
      return { target: name, gapSince, items };
    },
  );
}
