import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { Problem } from '../../src/http/problems.ts';
import { type AdminRoutes, buildServer, type ServerDeps } from '../../src/http/server.ts';
import { flag, positiveDecimal, repeated, wholeNumber } from '../../src/http/validation.ts';
import { createLog } from '../../src/log.ts';

export const ADMIN_SECRET = 'a secret of the tests, long enough';

export type LogLine = { readonly msg: string; readonly level: string } & Readonly<Record<string, unknown>>;

/** Builds the server of the API with the given routes, and keeps what it logs. Nothing listens until a test says so. */
export async function buildTestServer(
  deps: Partial<ServerDeps> = {},
): Promise<{ app: FastifyInstance; lines: LogLine[]; secret: Record<string, string> }> {
  const lines: LogLine[] = [];
  const log = createLog({
    level: 'debug',
    name: 'test',
    destination: { write: (line) => void lines.push(JSON.parse(line) as LogLine) },
  });
  const app = await buildServer({
    adminSecret: ADMIN_SECRET,
    log,
    environment: 'test',
    checks: [{ name: 'postgres', check: async () => undefined }],
    queues: [],
    routes: [],
    ...deps,
  });
  return { app, lines, secret: { 'x-admin-secret': ADMIN_SECRET } };
}

export const PREFIX = '/api/v1/admin';

/** Routes that take parameters and bodies, and fail, in every way there is. */
export const sampleRoutes: AdminRoutes = (app) => {
  const querystring = z.object({
    target: z.enum(['notes', 'tickets']).optional(),
    tenantId: repeated(z.string().min(1).max(5), 3),
    batchSize: wholeNumber(1, 2048).default(50),
    dryRun: flag().default(false),
    runId: z.uuid().optional(),
    slug: z.string().regex(/^a/, { error: 'must begin with an a' }).optional(),
    share: positiveDecimal(100).optional(),
  });
  app.post('/start', { schema: { querystring } }, async (request) => request.query);
  const body = z.object({
    apiKey: z.string().min(8),
    weight: z.int().min(1).optional(),
    pace: z.object({ a: z.int() }).optional(),
  });
  app.put(
    '/credential/:tenantId',
    { schema: { body, params: z.object({ tenantId: z.string() }) } },
    async (request) => ({
      tenantId: request.params.tenantId,
      fields: Object.keys(request.body),
    }),
  );
  app.get('/plain', async () => ({ ok: true }));
  app.get('/conflict', async () => {
    throw new Problem('unsettled_run', 'Target notes has an unsettled run.', { extras: { runId: 'r1' } });
  });
  app.get('/bug', async () => {
    const cause = new Error('relation "notes" does not exist');
    throw Object.assign(new Error('Failed query: select $1\nparams: planted', { cause }), {
      query: 'select $1',
      params: ['planted'],
    });
  });
  app.get('/answer', { schema: { response: { 200: z.object({ count: z.int() }) } } }, async () => ({
    count: 1,
    more: 'hidden',
  }));
};
