import type { FastifyInstance } from 'fastify';
import { actorOf, SECRET_HEADER } from '../auth.ts';
import type { CallApi } from './frame.ts';

const PREFIX = '/api/v1/admin';

/**
 * Makes the console's way to the API: through its own routes, in this process, so that no rule is written twice. Whether the
 * caller may do it was decided when the page was asked for: a viewer's POST does not get this far.
 */
export function createCallApi(app: FastifyInstance, adminSecret: string): CallApi {
  return async (request, method, path, { query = {}, body } = {}) => {
    const parameters = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) {
      for (const one of [value ?? []].flat()) parameters.append(name, one);
    }
    const search = parameters.toString();
    const answer = await app.inject({
      method,
      url: `${PREFIX}${path}${search === '' ? '' : `?${search}`}`,
      remoteAddress: request.ip,
      headers: {
        [SECRET_HEADER]: Buffer.from(adminSecret, 'utf8').toString('latin1'),
        'x-actor': Buffer.from(`console, ${actorOf(request)}`, 'utf8').toString('latin1'),
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      ...(body !== undefined && { payload: JSON.stringify(body) }),
    });
    return { status: answer.statusCode, body: answer.body === '' ? null : JSON.parse(answer.body) };
  };
}
