import { createCipheriv, createDecipheriv, createHash, createHmac, randomBytes } from 'node:crypto';
import type { Credential } from '../core/credential.ts';
import type { HeaderFields } from '../core/request-headers.ts';
import type { SealedCredential } from '../db/tenant-credentials.ts';

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const KEY_ID_BYTES = 8;
/** Begins a seal of the present format. One of the first format begins with its nonce. */
const FORMAT_1 = Buffer.from('IFS\u0001', 'latin1');
const HEAD_BYTES = FORMAT_1.length + KEY_ID_BYTES;

/**
 * What a key may be used for: whose it is, and where and how it is sent. It is the associated data of the seal, so that a seal
 * opens only beside the very values that it was made with.
 */
export type SealTerms = { readonly tenantId: string } & Readonly<Record<string, unknown>>;

/** The terms of a stored credential. Whatever says where a key goes, or as what, belongs here; a test looks at the columns. */
export function sealTermsOf({
  tenantId,
  baseUrl,
  organization,
  apiKeyHeader,
  model,
}: Pick<SealedCredential, 'tenantId' | 'baseUrl' | 'organization' | 'apiKeyHeader' | 'model'>): SealTerms {
  return { tenantId, baseUrl, organization, apiKeyHeader, model };
}

/**
 * Seals a tenant's API key, as `secretsText` writes it, with AES-256-GCM, bound to its terms.
 *
 * A seal that is copied to another tenant's row does not open there, nor one whose row names another address by now. Sealing
 * the same key twice gives different bytes.
 *
 * @param sealingKey 32 bytes.
 * @returns 4 bytes format, 8 bytes id of the sealing key, 12 bytes nonce, 16 bytes tag, then the ciphertext.
 */
export function sealKey(text: string, terms: SealTerms, sealingKey: Buffer): Buffer {
  const head = Buffer.concat([FORMAT_1, keyIdOf(sealingKey)]);
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', sealingKey, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(associatedData(head, terms));
  const sealed = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
  return Buffer.concat([head, nonce, cipher.getAuthTag(), sealed]);
}

export type OpenedKey = {
  /** What was sealed. */
  readonly text: string;
  /** 0: the first format, which is bound to the tenant alone. What else stands beside such a seal proves nothing. */
  readonly format: 0 | 1;
  /** Which of the given keys opened it. */
  readonly sealingKey: Buffer;
};

/**
 * Opens what `sealKey` sealed, with the one of the keys that sealed it.
 *
 * @throws {Error} when it was sealed with none of the keys or beside other terms, or the bytes were changed. The message says
 *   nothing of the key.
 */
export function openKey(sealed: Buffer, terms: SealTerms, sealingKeys: readonly Buffer[]): OpenedKey {
  if (!sealed.subarray(0, FORMAT_1.length).equals(FORMAT_1))
    return openFirstFormat(sealed, terms, sealingKeys);
  const head = sealed.subarray(0, HEAD_BYTES);
  const keyId = head.subarray(FORMAT_1.length);
  const sealingKey = sealingKeys.find((key) => keyIdOf(key).equals(keyId));
  if (sealingKey === undefined) throw new Error('sealed with a key that is not configured');
  const text = decrypt(sealed.subarray(HEAD_BYTES), associatedData(head, terms), sealingKey);
  return { text, format: 1, sealingKey };
}

/** 12 bytes nonce, 16 bytes tag, ciphertext; the tenant id is the associated data. Nothing is sealed so any more. */
function openFirstFormat(sealed: Buffer, { tenantId }: SealTerms, sealingKeys: readonly Buffer[]): OpenedKey {
  for (const sealingKey of sealingKeys) {
    try {
      return { text: decrypt(sealed, Buffer.from(tenantId, 'utf8'), sealingKey), format: 0, sealingKey };
    } catch {}
  }
  throw new Error('does not open with any of the configured keys');
}

function decrypt(bytes: Buffer, data: Buffer, sealingKey: Buffer): string {
  const nonce = bytes.subarray(0, NONCE_BYTES);
  const decipher = createDecipheriv('aes-256-gcm', sealingKey, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(data);
  decipher.setAuthTag(bytes.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES));
  const plain = decipher.update(bytes.subarray(NONCE_BYTES + TAG_BYTES));
  return Buffer.concat([plain, decipher.final()]).toString('utf8');
}

/** Tells sealing keys apart without telling them. */
function keyIdOf(sealingKey: Buffer): Buffer {
  return createHmac('sha256', sealingKey).update('infill sealing key id').digest().subarray(0, KEY_ID_BYTES);
}

function associatedData(head: Buffer, terms: SealTerms): Buffer {
  return Buffer.concat([head, Buffer.from(canonicalJson(terms), 'utf8')]);
}

/** JSON with the fields in order and without those that are null, so that a field which is added later changes no seal. */
function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  const fields = Object.entries(value)
    .filter(([, one]) => one !== null && one !== undefined)
    .toSorted(([a], [b]) => (a < b ? -1 : 1));
  return `{${fields.map(([name, one]) => `${JSON.stringify(name)}:${canonicalJson(one)}`).join(',')}}`;
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
