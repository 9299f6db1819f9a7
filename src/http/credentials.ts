/** The routes of a tenant's credential. No answer ever holds a key: only its last four characters. */
import { z } from 'zod';
import { mayReceiveKeys, normalBaseUrl } from '../core/base-url.ts';
import { API_KEY_HEADER_DEFAULT } from '../core/request-headers.ts';
import type { KeyringOptions } from '../credentials/keyring.ts';
import { recheckCredential, storeCredential, type TryKey } from '../credentials/store.ts';
import { recordAudit } from '../db/audit.ts';
import type { Db } from '../db/client.ts';
import {
  type CredentialRecord,
  deleteCredential,
  listCredentials,
  readCredential,
} from '../db/tenant-credentials.ts';
import { actorOf } from './auth.ts';
import { CredentialBody, CredentialShape, credentialShape } from './credential-shapes.ts';
import { decodeCursor, pageOf } from './cursors.ts';
import { Problem } from './problems.ts';
import { requireServices } from './readiness.ts';
import type { AdminApp } from './server.ts';
import { storedTenantId, type TenantIdDeps, tenantSpellings } from './tenant-ids.ts';
import { flag, wholeNumber } from './validation.ts';

export type CredentialRoutesDeps = TenantIdDeps & {
  readonly db: Db;
  readonly keys: KeyringOptions & { readonly allowedBaseUrls: readonly string[] };
  readonly tryKey: TryKey;
};

const TenantParams = z.object({
  tenantId: z
    .string()
    .min(1)
    .max(200)
    .describe(
      'Stored as the column of the tenants writes it: a UUID in lower case, a number without leading zeros.',
    ),
});

/** Registers the routes under `/api/v1/admin`. */
export function credentialRoutes(deps: CredentialRoutesDeps) {
  return (app: AdminApp): void => {
    putRoute(app, deps);
    readRoutes(app, deps);
    deleteRoute(app, deps);
    checkRoute(app, deps);
  };
}

function putRoute(app: AdminApp, deps: CredentialRoutesDeps): void {
  const { db, keys, tryKey } = deps;
  app.put(
    '/tenants/:tenantId/credential',
    {
      preHandler: requireServices(['postgres']),
      schema: {
        summary: "Store a tenant's key, sealed",
        description: 'Replaces the credential as a whole. The key is tried first; `check=false` skips that.',
        params: TenantParams,
        querystring: z.object({ check: flag().default(true) }),
        body: CredentialBody,
        response: { 200: CredentialShape },
      },
    },
    async (request) => {
      const { sealingKey } = keys;
      if (sealingKey === null) throw sealingOff();
      assertKeyHeaderIsFree(request.body);
      const baseUrl = checkedBaseUrl(request.body.baseUrl, keys);
      const tenantId = await storedTenantId(deps, request.params.tenantId, 'tenantId');
      const outcome = await storeCredential(
        db,
        { ...keys, sealingKey },
        {
          tenantId,
          request: { ...request.body, baseUrl },
          actor: actorOf(request),
          tryKey: request.query.check ? tryKey : null,
        },
      );
      if (outcome.kind === 'refused') {
        throw new Problem('key_refused', `Nothing was stored. ${outcome.verdict.reason ?? ''}`.trim(), {
          errors: [{ field: 'apiKey', message: 'is refused by the provider' }],
        });
      }
      return credentialShape(outcome.record);
    },
  );
}

/** @throws {Problem} when one of the headers would take the place of the key. */
function assertKeyHeaderIsFree({
  apiKeyHeader = API_KEY_HEADER_DEFAULT,
  headers = {},
}: z.output<typeof CredentialBody>): void {
  if (!Object.hasOwn(headers, apiKeyHeader)) return;
  const message = `must not hold ${apiKeyHeader}, the header of the key: name another one in apiKeyHeader`;
  throw new Problem('invalid_request', `headers ${message}`, { errors: [{ field: 'headers', message }] });
}

/** @throws {Problem} unless the address is https, the default one, or allowed by configuration. */
function checkedBaseUrl(given: string | undefined, keys: CredentialRoutesDeps['keys']): string | undefined {
  if (given === undefined) return undefined;
  const base = normalBaseUrl(given);
  if (mayReceiveKeys(base, keys)) return base;
  const message =
    'must be an https URL of the public internet, without credentials (also in its query), fragment or an empty query, or be listed in ALLOWED_BASE_URLS';
  throw new Problem('invalid_request', `baseUrl ${message}`, { errors: [{ field: 'baseUrl', message }] });
}

/** The answer where keys cannot be sealed. */
export function sealingOff(): Problem {
  return new Problem(
    'sealing_off',
    'Set CREDENTIALS_KEY (32 bytes in base64) in the API and in the workers, then store the key.',
  );
}

function readRoutes(app: AdminApp, deps: CredentialRoutesDeps): void {
  const { db } = deps;
  app.get(
    '/tenants/:tenantId/credential',
    {
      preHandler: requireServices(['postgres']),
      schema: {
        summary: "Show a tenant's credential, masked",
        params: TenantParams,
        response: { 200: CredentialShape },
      },
    },
    async ({ params: { tenantId } }) => credentialShape(await existingCredential(deps, tenantId)),
  );
  app.get(
    '/credentials',
    {
      preHandler: requireServices(['postgres']),
      schema: {
        summary: 'List the credentials of all tenants, masked',
        querystring: z.object({
          limit: wholeNumber(1, 1_000).default(100),
          cursor: z.string().max(2_000).optional(),
        }),
        response: { 200: z.object({ items: z.array(CredentialShape), nextCursor: z.string().nullable() }) },
      },
    },
    async ({ query: { limit, cursor } }) => {
      const after = decodeCursor(cursor, z.strictObject({ tenantId: z.string() }))?.tenantId ?? '';
      const found = await listCredentials(db, { after, limit: limit + 1 });
      const { page, nextCursor } = pageOf(found, limit, ({ tenantId }) => ({ tenantId }));
      return { items: page.map(credentialShape), nextCursor };
    },
  );
}

function deleteRoute(app: AdminApp, deps: CredentialRoutesDeps): void {
  const { db } = deps;
  app.delete(
    '/tenants/:tenantId/credential',
    {
      preHandler: requireServices(['postgres']),
      schema: {
        summary: "Remove a tenant's credential",
        description:
          "The tenant then uses the platform's key, if TENANT_KEY_POLICY allows that. May be repeated.",
        params: TenantParams,
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      // Also what was stored under the spelling that is given, before the target's table was there.
      for (const tenantId of await tenantSpellings(deps, request.params.tenantId)) {
        const removed = await deleteCredential(db, tenantId);
        if (removed)
          await recordAudit(db, { actor: actorOf(request), action: 'credential.removed', subject: tenantId });
      }
      return reply.code(204).send(null);
    },
  );
}

const UNREADABLE = {
  key_unreadable:
    'The stored key does not open with the present CREDENTIALS_KEY: set the one it was sealed with, or store the key again.',
  address_refused:
    'The base URL of the credential is not allowed any more: add it to ALLOWED_BASE_URLS, or store the key with another.',
};

function checkRoute(app: AdminApp, deps: CredentialRoutesDeps): void {
  const { db, keys, tryKey } = deps;
  app.post(
    '/tenants/:tenantId/credential/check',
    {
      preHandler: requireServices(['postgres']),
      schema: {
        summary: "Try a tenant's stored key",
        description: 'Embeds one word with it, and records what that showed.',
        params: TenantParams,
        response: { 200: CredentialShape },
      },
    },
    async (request) => {
      const { tenantId } = await existingCredential(deps, request.params.tenantId);
      const outcome = await recheckCredential(db, keys, { tenantId, tryKey });
      if (outcome.kind === 'absent') throw noCredential(tenantId);
      if (outcome.kind === 'unreadable') {
        throw new Problem('conflict', UNREADABLE[outcome.code]);
      }
      const { record } = outcome;
      await recordAudit(db, {
        actor: actorOf(request),
        action: 'credential.checked',
        subject: tenantId,
        details: { status: record.status },
      });
      return credentialShape(record);
    },
  );
}

/** @throws {Problem} 404. */
async function existingCredential(deps: CredentialRoutesDeps, given: string): Promise<CredentialRecord> {
  for (const tenantId of await tenantSpellings(deps, given)) {
    const record = await readCredential(deps.db, tenantId);
    if (record !== undefined) return record;
  }
  throw noCredential(given);
}

function noCredential(tenantId: string): Problem {
  return new Problem('not_found', `Tenant "${tenantId}" has no credential of its own.`);
}
