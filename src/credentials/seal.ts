import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';
import type { Credential } from '../core/credential.ts';
import type { HeaderFields } from '../core/request-headers.ts';

const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/**
 * Seals a tenant's API key with AES-256-GCM.
 *
 * The tenant id is associated data: a sealed key that is copied to another tenant's row does not open there. Sealing the
 * same key twice gives different bytes.
 *
 * @param sealingKey 32 bytes.
 * @returns 12 bytes nonce, 16 bytes tag, then the ciphertext.
 */
export function sealKey(apiKey: string, tenantId: string, sealingKey: Buffer): Buffer {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', sealingKey, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(Buffer.from(tenantId, 'utf8'));
  const sealed = Buffer.concat([cipher.update(apiKey, 'utf8'), cipher.final()]);
  return Buffer.concat([nonce, cipher.getAuthTag(), sealed]);
}

/**
 * Opens what `sealKey` sealed.
 *
 * @throws {Error} when the sealing key or the tenant is another, or the bytes were changed. The message says nothing of the key.
 */
export function openKey(sealed: Buffer, tenantId: string, sealingKey: Buffer): string {
  const nonce = sealed.subarray(0, NONCE_BYTES);
  const tag = sealed.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES);
  const decipher = createDecipheriv('aes-256-gcm', sealingKey, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(Buffer.from(tenantId, 'utf8'));
  decipher.setAuthTag(tag);
  return Buffer.concat([
    decipher.update(sealed.subarray(NONCE_BYTES + TAG_BYTES)),
    decipher.final(),
  ]).toString('utf8');
}

/** 16 hex characters of the SHA-256 of a key: tells keys apart without telling the key. */
export function fingerprintOf(apiKey: string): string {
  return createHash('sha256').update(apiKey).digest('hex').slice(0, 16);
}

export type SealedSecrets = { readonly apiKey: string; readonly headers?: HeaderFields | undefined };

/** Before what holds headers beside the key. No key has this character. */
const WITH_HEADERS = '\0';

/** A key and its headers as the one text that is sealed: the bare key where there are no headers. */
export function secretsText({ apiKey, headers = {} }: SealedSecrets): string {
  return Object.keys(headers).length === 0 ? apiKey : WITH_HEADERS + JSON.stringify({ apiKey, headers });
}

/** Reads what `secretsText` wrote. */
export function secretsOf(text: string): SealedSecrets {
  return text.startsWith(WITH_HEADERS) ? JSON.parse(text.slice(WITH_HEADERS.length)) : { apiKey: text };
}

/** The fingerprint of all that makes a key's requests others: the key's own where nothing else is set. */
export function credentialFingerprint({
  apiKey,
  apiKeyHeader,
  headers = {},
  model,
}: Pick<Credential, 'apiKey' | 'apiKeyHeader' | 'headers' | 'model'>): string {
  const fields = Object.entries(headers).sort(([a], [b]) => (a < b ? -1 : 1));
  const isPlain = apiKeyHeader === undefined && model === undefined && fields.length === 0;
  return fingerprintOf(
    isPlain ? apiKey : JSON.stringify([apiKey, apiKeyHeader ?? null, fields, model ?? null]),
  );
}
