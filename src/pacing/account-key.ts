import { createHash } from 'node:crypto';
import type { Credential } from '../core/credential.ts';

/** The part of a credential that tells accounts apart. Holds no key. */
export type Holder = Pick<Credential, 'baseUrl' | 'fingerprint' | 'organization'>;

/**
 * Names what a provider limits together: one model of one organisation at one base URL.
 *
 * `organizationKey` is null while the provider has not said whose key it is; then the key stands for itself. Keys of the
 * same organisation get the same name. A hash: nothing can be read from it.
 */
export function accountKeyOf(holder: Holder, model: string, organizationKey: string | null): string {
  return hashOf([organizationKey === null ? holderKeyOf(holder) : organizationKey, model]);
}

/** Names an organisation as the answers of one base URL report it. */
export function organizationKeyOf({ baseUrl }: Holder, organization: string): string {
  return hashOf([baseUrl, organization]);
}

/** Names a key at a base URL, whatever the model: under this name its organisation and its fixed limits are kept. */
export function holderKeyOf({ baseUrl, fingerprint, organization }: Holder): string {
  return hashOf([baseUrl, fingerprint, organization]);
}

function hashOf(parts: readonly (string | null)[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 32);
}
