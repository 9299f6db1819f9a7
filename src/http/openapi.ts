import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyInstance } from 'fastify';
import { createJsonSchemaTransform } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { SECRET_HEADER } from './auth.ts';
import { html, sendPage } from './html.ts';
import { PROBLEM_CONTENT_TYPE, PROBLEMS, ProblemBody } from './problems.ts';

const SCHEME = 'adminSecret';

/** Only from this server: the page works without the internet. */
const DOCS_POLICY = [
  "default-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "object-src 'none'",
  "base-uri 'self'",
  "frame-ancestors 'none'",
].join('; ');

/** Serves the description of the API at `/docs`, made from the schemas of the routes. Call it before adding routes. */
export async function addOpenApi(app: FastifyInstance, environment: string): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Infill',
        version: '1',
        description: 'Finds rows without an embedding and fills them, tenant by tenant.',
      },
      components: {
        securitySchemes: { [SCHEME]: { type: 'apiKey', in: 'header', name: SECRET_HEADER } },
      },
    },
    transform: createJsonSchemaTransform({
      zodToJsonConfig: { unrepresentable: 'any', override: showDefault },
    }),
  });
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    staticCSP: DOCS_POLICY,
    // BaseLayout: without the bar of another product's name that asks for the address of a description.
    uiConfig: { deepLinking: true, displayRequestDuration: true, layout: 'BaseLayout' },
    theme: { title: 'Infill API' },
  });

  app.get('/docs/problems', { schema: { hide: true } }, async (_request, reply) =>
    sendPage(reply, {
      title: 'Problems',
      environment,
      links: [{ text: 'API', href: '/docs' }],
      body: html`<h1>Problems</h1>
<p>What an answer of the type ${PROBLEM_CONTENT_TYPE} means, by its <code>type</code>.</p>
${Object.entries(PROBLEMS).map(
  ([kind, { status, title, because }]) => html`<h2 id="${kind}">${status} ${title}</h2><p>${because}</p>
`,
)}`,
    }),
  );
}

/** zod leaves the default of a parameter out where it is read from text. */
function showDefault({
  zodSchema,
  jsonSchema,
}: {
  zodSchema: z.core.$ZodType;
  jsonSchema: z.core.JSONSchema.BaseSchema;
}) {
  if (zodSchema instanceof z.ZodDefault) jsonSchema.default = zodSchema.def.defaultValue as never;
}

const problemAnswer = (description: string) => ({
  description,
  content: { [PROBLEM_CONTENT_TYPE]: { schema: ProblemBody } },
});

/**
 * Completes the schemas of the routes that are added to `scope` after this call: that they need the secret, that they
 * answer with problems, and that a route which names no parameters takes none.
 */
export function describeAdminRoutes(scope: FastifyInstance): void {
  scope.addHook('onRoute', (route) => {
    route.schema = {
      querystring: z.strictObject({}),
      security: [{ [SCHEME]: [] }],
      ...route.schema,
      response: {
        '4xx': problemAnswer('The request cannot be fulfilled.'),
        '5xx': problemAnswer('Infill, or a service that it needs, cannot fulfil the request now.'),
        ...(route.schema?.response as Record<string, unknown> | undefined),
      },
    };
  });
}
