import { isOwnBaseUrl, mayReceiveKeys } from '../core/base-url.ts';
import type { Credential } from '../core/credential.ts';
import { EmbedError } from '../core/failures.ts';
import type { HeaderFields } from '../core/request-headers.ts';
import type { Db } from '../db/client.ts';
import { readCredential, type SealedCredential } from '../db/tenant-credentials.ts';
import { credentialFingerprint, type OpenedKey, openKey, sealTermsOf, secretsOf } from './seal.ts';

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
  /** Opens what was sealed before `sealingKey` was there. */
  readonly sealingKeyPrevious?: Buffer | null;
  /** Base URLs that the operator allows beside https ones. */
  readonly allowedBaseUrls?: readonly string[];
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

/**
 * Opens a stored credential, if its address may still have the key.
 *
 * @throws {EmbedError} `key_unreadable`, also for a seal of the first format beside an address that it does not prove;
 *   `address_refused`.
 */
export function openCredential(record: SealedCredential, options: KeyringOptions): Credential {
  const { text, format } = openSeal(record, options);
  if (format === 0 && !isProven(record, options)) throw new EmbedError('key_unreadable');
  const baseUrl = record.baseUrl ?? options.defaultBaseUrl;
  if (record.baseUrl !== null && !mayReceiveKeys(record.baseUrl, ownBaseUrls(options)))
    throw new EmbedError('address_refused');
  return {
    ...secretsOf(text),
    apiKeyHeader: record.apiKeyHeader ?? (record.baseUrl === null ? options.platformApiKeyHeader : undefined),
    model: record.model ?? undefined,
    baseUrl,
    organization: record.organization,
    fingerprint: record.fingerprint,
    owner: 'tenant',
    requestsPerMinute: record.requestsPerMinute,
    tokensPerMinute: record.tokensPerMinute,
    weight: record.weight,
  };
}

/** @throws {EmbedError} `key_unreadable`. */
export function openSeal(record: SealedCredential, options: KeyringOptions): OpenedKey {
  const { sealingKey, sealingKeyPrevious = null } = options;
  const keys = [sealingKey, sealingKeyPrevious].filter((key) => key !== null);
  try {
    return openKey(record.sealedKey, sealTermsOf(record), keys);
  } catch {
    throw new EmbedError('key_unreadable');
  }
}

/**
 * Whether the key of a seal of the first format may be used as its row says.
 *
 * Such a seal proves the tenant alone. Who can write the database, but has no CREDENTIALS_KEY, could put an address of their
 * own beside it, also beside one from an old copy; so it counts only where the key goes to an address that the operator chose.
 */
export function isProven(
  { baseUrl, apiKeyHeader, model }: SealedCredential,
  options: KeyringOptions,
): boolean {
  // When such seals were made, these two were not there.
  if (apiKeyHeader !== null || model !== null) return false;
  return baseUrl === null || isOwnBaseUrl(baseUrl, ownBaseUrls(options));
}

function ownBaseUrls({ defaultBaseUrl, allowedBaseUrls = [] }: KeyringOptions) {
  return { defaultBaseUrl, allowedBaseUrls };
}
