import type { FastifyRequest } from 'fastify';

/**
 * Where the console is for the browser: `/admin`, below the path that a proxy says it has put before it.
 *
 * The header is believed whoever sends it: its sender only gets links that lead nowhere.
 */
export function homeOf(request: FastifyRequest): string {
  const given = request.headers['x-forwarded-prefix'];
  const prefix = typeof given === 'string' && /^(\/[\w.-]+)+$/.test(given) ? given : '';
  return `${prefix}/admin`;
}

/** A page of ours as the browser has to ask for it. */
export function asSeen(request: FastifyRequest, page: string): string {
  return `${homeOf(request).slice(0, -'/admin'.length)}${page}`;
}
