import type { FastifyInstance } from 'fastify';
import type { Registry } from 'prom-client';
import type { Log } from '../log.ts';
import { createApp } from './app.ts';
import type { Readiness, ReadinessCheck } from './readiness.ts';

export type HealthDeps = {
  readonly registry: Registry;
  /** True from the moment that the process was told to end. */
  readonly isStopping: () => boolean;
};

/**
 * Adds `/livez`, `/readyz` and `/metrics`, for which nobody has to log in.
 *
 * `/livez` says only that the event loop turns, so that an outage of Redis restarts nobody. `/readyz` is 503 while a
 * service is missing and as soon as the process is stopping.
 */
export function addHealthRoutes(app: FastifyInstance, readiness: Readiness, deps: HealthDeps): void {
  const hidden = { schema: { hide: true }, config: { quiet: true } };

  app.get('/livez', hidden, async () => ({ status: 'ok' }));

  app.get('/readyz', hidden, async (_request, reply) => {
    if (deps.isStopping()) return reply.code(503).send({ status: 'stopping', checks: {} });
    const checks = await readiness.report();
    const ready = Object.values(checks).every((outcome) => outcome === 'ok');
    return reply.code(ready ? 200 : 503).send({ status: ready ? 'ok' : 'unavailable', checks });
  });

  app.get('/metrics', hidden, async (_request, reply) =>
    reply.type(deps.registry.contentType).send(await deps.registry.metrics()),
  );
}

/** The server of a worker: the three health routes and nothing else. The caller listens and closes. */
export async function buildHealthServer(
  deps: HealthDeps & { readonly log: Log; readonly checks: readonly ReadinessCheck[] },
): Promise<FastifyInstance> {
  const app = createApp(deps);
  addHealthRoutes(app, app.readiness, deps);
  await app.ready();
  return app;
}
