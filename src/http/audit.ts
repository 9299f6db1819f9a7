/** The route of the audit: who did what. */
import { z } from 'zod';
import { listAudit } from '../db/audit.ts';
import type { Db } from '../db/client.ts';
import { decodeCursor, pageOf } from './cursors.ts';
import { requireServices } from './readiness.ts';
import type { AdminApp } from './server.ts';
import { RunId } from './shapes.ts';
import { wholeNumber } from './validation.ts';

const EventShape = z.object({
  eventId: z.number(),
  at: z.string(),
  actor: z.string(),
  action: z.string(),
  runId: z.string().nullable(),
  subject: z.string().nullable(),
  details: z.unknown(),
});
const EventCursor = z.strictObject({ eventId: z.int() });

/** Registers the route under `/api/v1/admin`. */
export function auditRoutes({ db }: { readonly db: Db }) {
  return (app: AdminApp): void => {
    app.get(
      '/audit',
      {
        preHandler: requireServices(['postgres']),
        schema: {
          summary: 'List what was done, the newest first',
          querystring: z.object({
            runId: RunId.optional(),
            limit: wholeNumber(1, 1_000).default(100),
            cursor: z.string().max(2_000).optional(),
          }),
          response: { 200: z.object({ items: z.array(EventShape), nextCursor: z.string().nullable() }) },
        },
      },
      async ({ query: { runId, limit, cursor } }) => {
        const before = decodeCursor(cursor, EventCursor)?.eventId ?? null;
        const found = await listAudit(db, { runId: runId ?? null, before, limit: limit + 1 });
        const { page, nextCursor } = pageOf(found, limit, ({ eventId }) => ({ eventId }));
        return { items: page, nextCursor };
      },
    );
  };
}
