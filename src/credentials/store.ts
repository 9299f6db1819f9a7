import type { Credential, StatedLimit } from '../core/credential.ts';
import { EmbedError, UnplannedStatus } from '../core/failures.ts';
import type { HeaderFields } from '../core/request-headers.ts';
import { recordAudit } from '../db/audit.ts';
import type { Db } from '../db/client.ts';
import {
  type CredentialRecord,
  putCredential,
  readCredential,
  recordKeyHealth,
} from '../db/tenant-credentials.ts';
import { type KeyVerdict, statusAfter } from './health.ts';
import { type KeyringOptions, openCredential } from './keyring.ts';
import { credentialFingerprint, sealKey, sealTermsOf, secretsText } from './seal.ts';

export type CredentialRequest = {
  readonly apiKey: string;
  readonly baseUrl?: string | undefined;
  readonly organization?: string | undefined;
  readonly apiKeyHeader?: string | undefined;
  readonly headers?: HeaderFields | undefined;
  readonly model?: string | undefined;
  readonly requestsPerMinute?: StatedLimit | undefined;
  readonly tokensPerMinute?: StatedLimit | undefined;
  readonly weight?: number | undefined;
};

/** Embeds one word with a credential. Rejects with an `EmbedError` when the provider does not. */
export type TryKey = (credential: Credential) => Promise<void>;

/** As many forms of a request as there may be besides the first. */
const FORMS_MAX = 4;

/** Finds out what a key is good for by embedding one word with it. An outage says nothing of the key: `unchecked`. */
export async function checkKey(
  tryKey: TryKey,
  credential: Credential,
  attemptsLeft = FORMS_MAX,
): Promise<KeyVerdict> {
  try {
    await tryKey(credential);
    return { status: 'valid', reason: null };
  } catch (error) {
    if (error instanceof UnplannedStatus) return { status: 'invalid', reason: unplannedReason(error) };
    if (!(error instanceof EmbedError)) throw error;
    // In another form, which its server may take: each refusal rules one out, so this comes to an end.
    if (error.again && attemptsLeft > 0) return checkKey(tryKey, credential, attemptsLeft - 1);
    return statusAfter(error) ?? { status: 'unchecked', reason: reasonOf(error) };
  }
}

/** Where nothing answered, one and the same whatever the reason: a trial is not to tell who listens in this network. */
function reasonOf(error: EmbedError): string {
  return error.status === undefined ? new EmbedError('connection_failed').message : error.message;
}

function unplannedReason({ status }: UnplannedStatus): string {
  return `the base URL answered with status ${status}, which no embeddings endpoint does`;
}

/**
 * Seals a tenant's key and stores it in place of the one before.
 *
 * With `tryKey` the key is tried first; one that the provider refuses is not stored, and `refused` says why. A key that
 * only has no money left, or whose provider does not answer, is stored with that status.
 */
export async function storeCredential(
  db: Db,
  options: KeyringOptions & { readonly sealingKey: Buffer },
  {
    tenantId,
    request,
    actor,
    tryKey,
  }: { tenantId: string; request: CredentialRequest; actor: string; tryKey: TryKey | null },
): Promise<{ kind: 'stored'; record: CredentialRecord } | { kind: 'refused'; verdict: KeyVerdict }> {
  const stored = {
    tenantId,
    fingerprint: credentialFingerprint(request),
    last4: lastFourOf(request.apiKey),
    baseUrl: request.baseUrl ?? null,
    organization: request.organization ?? null,
    apiKeyHeader: request.apiKeyHeader ?? null,
    headerNames: Object.keys(request.headers ?? {}).sort(),
    model: request.model ?? null,
    requestsPerMinute: request.requestsPerMinute ?? null,
    tokensPerMinute: request.tokensPerMinute ?? null,
    weight: request.weight ?? 1,
  };
  const record = {
    ...stored,
    sealedKey: sealKey(secretsText(request), sealTermsOf(stored), options.sealingKey),
  };
  const verdict = tryKey === null ? UNCHECKED : await checkKey(tryKey, openCredential(record, options));
  if (verdict.status === 'invalid') return { kind: 'refused', verdict };

  const put = await db.transaction(async (tx) => {
    const { status, reason } = verdict;
    const checkedAt = status === 'unchecked' ? null : new Date();
    const written = await putCredential(tx as unknown as Db, {
      ...record,
      status,
      statusReason: reason,
      checkedAt,
    });
    await recordAudit(tx as unknown as Db, {
      actor,
      action: 'credential.stored',
      subject: tenantId,
      details: { last4: record.last4, status },
    });
    return written;
  });
  return { kind: 'stored', record: put };
}

/** Nothing of a key so short that four characters would be half of it. */
function lastFourOf(apiKey: string): string {
  return apiKey.length < 8 ? '' : apiKey.slice(-4);
}

const UNCHECKED: KeyVerdict = { status: 'unchecked', reason: null };

export type Recheck =
  | { readonly kind: 'checked'; readonly record: CredentialRecord }
  /** The tenant has no key of its own. */
  | { readonly kind: 'absent' }
  /** The key does not open here, or its address is not allowed. Says nothing of the key itself. */
  | { readonly kind: 'unreadable'; readonly code: 'key_unreadable' | 'address_refused' };

/** Tries the stored key of a tenant and records what that showed. */
export async function recheckCredential(
  db: Db,
  options: KeyringOptions,
  { tenantId, tryKey }: { tenantId: string; tryKey: TryKey },
): Promise<Recheck> {
  const record = await readCredential(db, tenantId);
  if (record === undefined) return { kind: 'absent' };
  const credential = opened(record, options);
  if (typeof credential === 'string') return { kind: 'unreadable', code: credential };
  const verdict = await checkKey(tryKey, credential);
  if (verdict.status !== 'unchecked')
    await recordKeyHealth(db, { tenantId, fingerprint: record.fingerprint, ...verdict });
  const after = await readCredential(db, tenantId);
  return after === undefined ? { kind: 'absent' } : { kind: 'checked', record: after };
}

function opened(
  record: CredentialRecord,
  options: KeyringOptions,
): Credential | 'key_unreadable' | 'address_refused' {
  try {
    return openCredential(record, options);
  } catch (error) {
    const code = error instanceof EmbedError ? error.code : undefined;
    if (code === 'key_unreadable' || code === 'address_refused') return code;
    throw error;
  }
}
