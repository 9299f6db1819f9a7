/** What a credential looks like when it is stored, and when it is shown. */
import { z } from 'zod';
import { HeaderFields, HeaderName } from '../core/request-headers.ts';
import { REQUESTS_PER_MINUTE_MAX, statedLimit, TOKENS_PER_MINUTE_MAX } from '../core/target.ts';
import { CREDENTIAL_STATUSES, type CredentialRecord } from '../db/tenant-credentials.ts';

export const CredentialBody = z.object({
  apiKey: z
    .string()
    .min(1, { error: 'must be an API key of 1 to 500 characters' })
    .max(500, { error: 'must be an API key of 1 to 500 characters' })
    .regex(/^[\x21-\x7e]+$/, { error: 'must hold no spaces and no characters beyond ASCII' }),
  baseUrl: z
    .string()
    .max(500)
    .optional()
    .describe('Where the key is sent. https, or listed in ALLOWED_BASE_URLS.'),
  organization: z
    .string()
    .min(1)
    .max(200)
    .regex(/^[\x21-\x7e]+$/, { error: 'must hold no spaces' })
    .optional(),
  apiKeyHeader: HeaderName.optional().describe(
    'The header that holds the key, for example "api-key" (Azure). Default: authorization, as a bearer token.',
  ),
  headers: HeaderFields.optional().describe(
    'Up to ten further headers of each request, for example those of a gateway. Sealed with the key, and never shown.',
  ),
  model: z
    .string()
    .min(1)
    .max(200)
    .optional()
    .describe("What this provider calls the target's model, for example the name of a deployment."),
  requestsPerMinute: statedLimit(REQUESTS_PER_MINUTE_MAX)
    .optional()
    .describe(
      'Never exceeded, whatever the provider allows. "unlimited": nothing is guessed before the provider speaks.',
    ),
  tokensPerMinute: statedLimit(TOKENS_PER_MINUTE_MAX)
    .optional()
    .describe(
      'Never exceeded, whatever the provider allows. "unlimited": nothing is guessed before the provider speaks.',
    ),
  weight: z
    .number()
    .min(0.01)
    .max(100)
    .optional()
    .describe('Share of free capacity relative to others. Default: 1.'),
});

const ShownLimit = z.union([z.number(), z.literal('unlimited')]).nullable();

export const CredentialShape = z.object({
  tenantId: z.string(),
  last4: z.string().describe('Empty for a key of less than 8 characters.'),
  baseUrl: z.string().nullable(),
  organization: z.string().nullable(),
  apiKeyHeader: z.string().nullable(),
  headerNames: z.array(z.string()),
  model: z.string().nullable(),
  requestsPerMinute: ShownLimit,
  tokensPerMinute: ShownLimit,
  weight: z.number(),
  status: z.enum(CREDENTIAL_STATUSES),
  reason: z.string().nullable(),
  since: z.string(),
  checkedAt: z.string().nullable(),
  updatedAt: z.string(),
});

/** A credential as it is shown: masked. */
export function credentialShape(record: CredentialRecord): z.output<typeof CredentialShape> {
  return {
    tenantId: record.tenantId,
    last4: record.last4,
    baseUrl: record.baseUrl,
    organization: record.organization,
    apiKeyHeader: record.apiKeyHeader,
    headerNames: record.headerNames,
    model: record.model,
    requestsPerMinute: record.requestsPerMinute,
    tokensPerMinute: record.tokensPerMinute,
    weight: record.weight,
    status: record.status,
    reason: record.statusReason,
    since: record.statusSince.toISOString(),
    checkedAt: record.checkedAt?.toISOString() ?? null,
    updatedAt: record.updatedAt.toISOString(),
  };
}
