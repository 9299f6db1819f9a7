import type { FastifyInstance, FastifyRequest } from 'fastify';
import { Problem } from './problems.ts';

/** `type/subtype`, whatever parameters follow. */
const MEDIA_TYPE = /^\s*[\w!#$%&'*+.^`|~-]+\/[\w!#$%&'*+.^`|~-]+\s*(;|$)/;

/**
 * Lets every route take an empty body of any content type, since `wget --post-data ''` calls it a form and others call
 * it JSON; and takes JSON where a route has a schema for its body.
 *
 * A body with something in it that would be ignored is refused: `wget --post-data 'dryRun=true'` must not start a real
 * run. An empty JSON object counts as empty.
 */
export function acceptBodies(app: FastifyInstance): void {
  app.addHook('onRequest', async ({ raw: { headers } }) => {
    const isEmpty =
      headers['transfer-encoding'] === undefined && /^0*$/.test(headers['content-length'] ?? '');
    // Fastify refuses a content type that cannot be read, even of nothing. Chunks may turn out to be nothing.
    if (isEmpty) delete headers['content-type'];
    else if (headers['transfer-encoding'] !== undefined && !MEDIA_TYPE.test(headers['content-type'] ?? ''))
      headers['content-type'] = 'application/octet-stream';
  });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, async (request: FastifyRequest, body: Buffer) =>
    parseBody(request, body.toString('utf8')),
  );
}

function parseBody(request: FastifyRequest, text: string): unknown {
  const takesBody = request.routeOptions.schema?.body !== undefined;
  const isJson = /^application\/([\w.-]+\+)?json\b/i.test(request.headers['content-type'] ?? '');
  if (text.trim() === '') return undefined;

  if (!isJson && takesBody) {
    throw new Problem(
      'unsupported_media_type',
      'Send the body as JSON, with content-type: application/json.',
    );
  }
  const value = isJson ? parseJson(text) : text;
  if (takesBody) return value;
  if (isEmptyObject(value)) return undefined;
  throw new Problem(
    'unexpected_body',
    'This route takes no body. Put parameters into the query string: ?name=value',
  );
}

function parseJson(text: string): unknown {
  try {
    // A key of this name would change the prototype of whatever the object is copied into.
    return JSON.parse(text, (key, value) => {
      if (key === '__proto__') throw new SyntaxError('forbidden key');
      return value;
    });
  } catch (error) {
    // The parser's own message quotes the body, which may hold a key; only the place is told.
    const position = /position (\d+)/.exec((error as Error).message)?.[1];
    const place = position === undefined ? '' : ` It breaks off at character ${position}.`;
    throw new Problem('malformed_json', `The body cannot be read as JSON.${place}`);
  }
}

function isEmptyObject(value: unknown): boolean {
  return (
    typeof value === 'object' && value !== null && !Array.isArray(value) && Object.keys(value).length === 0
  );
}
