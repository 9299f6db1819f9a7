import type { Credential } from '../core/credential.ts';
import { EmbedError } from '../core/failures.ts';
import type { HeaderFields } from '../core/request-headers.ts';
import type { Db } from '../db/client.ts';
import { readCredential, type SealedCredential } from '../db/tenant-credentials.ts';
import { credentialFingerprint, openKey, type SealedSecrets, secretsOf } from './seal.ts';

export type KeyringOptions = {
  readonly platformKey: string | null;
  /** Of the platform's key. */
  readonly platformLimits?: Pick<Credential, 'requestsPerMinute' | 'tokensPerMinute'>;
  /** The header of the platform's key. Of a tenant's own key, too, where that goes to the same address. */
  readonly platformApiKeyHeader?: string | undefined;
  /** Go out with the platform's key and with no other. */
  readonly platformHeaders?: HeaderFields | undefined;
  readonly defaultBaseUrl: string;
  readonly policy: 'fallback' | 'required';
  /** 32 bytes; null when no key can be read. */
  readonly sealingKey: Buffer | null;
};

export type Keyring = {
  /**
   * The key that embeds a tenant's texts: its own, or the platform's if it has none and the policy allows that.
   *
   * A tenant that has a key of its own never gets the platform's, whatever is wrong with its own.
   *
   * @throws {EmbedError} `key_missing` when the tenant has no key and may not use the platform's, `key_unreadable` when
   *   its own cannot be opened.
   */
  resolve(tenantId: string): Promise<Credential>;
  /** The same, when the tenant's own credential was read already; null: it has none. */
  open(own: SealedCredential | null): Credential;
};

/**
 * Makes the keyring. It reads the credential anew each time and keeps nothing: a key that was put in a moment ago counts
 * from the next batch on, in every worker, and no text of its tenant goes out with the platform's key any more.
 */
export function createKeyring(db: Db, options: KeyringOptions): Keyring {
  const platform = platformCredential(options);
  const open = (own: SealedCredential | null): Credential => {
    if (own !== null) return openCredential(own, options);
    if (options.policy === 'fallback' && platform !== null) return platform;
    throw new EmbedError('key_missing');
  };
  return { open, resolve: async (tenantId) => open((await readCredential(db, tenantId)) ?? null) };
}

function platformCredential({
  platformKey,
  platformLimits,
  platformApiKeyHeader,
  platformHeaders,
  defaultBaseUrl,
}: KeyringOptions): Credential | null {
  if (platformKey === null) return null;
  const asked = { apiKey: platformKey, apiKeyHeader: platformApiKeyHeader, headers: platformHeaders };
  return {
    ...asked,
    baseUrl: defaultBaseUrl,
    organization: null,
    fingerprint: credentialFingerprint(asked),
    owner: 'platform',
    requestsPerMinute: platformLimits?.requestsPerMinute ?? null,
    tokensPerMinute: platformLimits?.tokensPerMinute ?? null,
    weight: 1,
  };
}

/** @throws {EmbedError} `key_unreadable`. */
export function openCredential(
  record: SealedCredential,
  { sealingKey, defaultBaseUrl, platformApiKeyHeader }: KeyringOptions,
): Credential {
  if (sealingKey === null) throw new EmbedError('key_unreadable');
  let secrets: SealedSecrets;
  try {
    secrets = secretsOf(openKey(record.sealedKey, record.tenantId, sealingKey));
  } catch {
    throw new EmbedError('key_unreadable');
  }
  return {
    ...secrets,
    apiKeyHeader: record.apiKeyHeader ?? (record.baseUrl === null ? platformApiKeyHeader : undefined),
    model: record.model ?? undefined,
    baseUrl: record.baseUrl ?? defaultBaseUrl,
    organization: record.organization,
    fingerprint: record.fingerprint,
    owner: 'tenant',
    requestsPerMinute: record.requestsPerMinute,
    tokensPerMinute: record.tokensPerMinute,
    weight: record.weight,
  };
}
