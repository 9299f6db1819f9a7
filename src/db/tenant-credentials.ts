/** Statements on `infill.tenant_credentials`. Keys are sealed here and nowhere unsealed (`credentials/seal.ts`). */
import { and, eq, sql } from 'drizzle-orm';
import type { Db } from './client.ts';
import { tenantCredentials } from './schema.ts';

/**
 * What is known of a key:
 *
 * - `unchecked`: nothing yet.
 * - `valid`: the provider took it.
 * - `rate_limited`: it works, slowly.
 * - `quota_exhausted`: the account has no money left; probed hourly.
 * - `invalid`: the provider refuses it.
 * - `model_unavailable`: it may not use the target's model.
 */
export const CREDENTIAL_STATUSES = [
  'unchecked',
  'valid',
  'rate_limited',
  'quota_exhausted',
  'invalid',
  'model_unavailable',
] as const;
export type CredentialStatus = (typeof CREDENTIAL_STATUSES)[number];

export type CredentialRecord = Omit<typeof tenantCredentials.$inferSelect, 'status'> & {
  readonly status: CredentialStatus;
};

/** What a key is opened from, and how it is used. */
export type SealedCredential = Pick<
  CredentialRecord,
  | 'tenantId'
  | 'sealedKey'
  | 'fingerprint'
  | 'baseUrl'
  | 'organization'
  | 'apiKeyHeader'
  | 'model'
  | 'requestsPerMinute'
  | 'tokensPerMinute'
  | 'weight'
>;

export type NewCredential = Pick<
  CredentialRecord,
  | 'tenantId'
  | 'sealedKey'
  | 'fingerprint'
  | 'last4'
  | 'baseUrl'
  | 'organization'
  | 'apiKeyHeader'
  | 'headerNames'
  | 'model'
  | 'requestsPerMinute'
  | 'tokensPerMinute'
  | 'weight'
  | 'status'
  | 'statusReason'
  | 'checkedAt'
>;

/** Stores a tenant's credential in place of the one before, all of it: what is left out is unset. */
export async function putCredential(db: Db, credential: NewCredential): Promise<CredentialRecord> {
  const changed = { ...credential, statusSince: sql`now()`, updatedAt: sql`now()` };
  const [row] = await db
    .insert(tenantCredentials)
    .values(changed)
    .onConflictDoUpdate({ target: tenantCredentials.tenantId, set: changed })
    .returning();
  if (row === undefined) throw new Error('an upsert returned no row');
  return row as CredentialRecord;
}

export async function readCredential(db: Db, tenantId: string): Promise<CredentialRecord | undefined> {
  const [row] = await db.select().from(tenantCredentials).where(eq(tenantCredentials.tenantId, tenantId));
  return row as CredentialRecord | undefined;
}

/** Puts another seal in the place of one. Returns false when it is not there any more: somebody stored another key. */
export async function replaceSeal(
  db: Db,
  before: Pick<CredentialRecord, 'tenantId' | 'sealedKey'>,
  sealedKey: Buffer,
): Promise<boolean> {
  const rows = await db
    .update(tenantCredentials)
    .set({ sealedKey })
    .where(
      and(eq(tenantCredentials.tenantId, before.tenantId), eq(tenantCredentials.sealedKey, before.sealedKey)),
    )
    .returning({ tenantId: tenantCredentials.tenantId });
  return rows.length > 0;
}

/** Returns whether there was one. */
export async function deleteCredential(db: Db, tenantId: string): Promise<boolean> {
  const rows = await db.delete(tenantCredentials).where(eq(tenantCredentials.tenantId, tenantId)).returning();
  return rows.length > 0;
}

/** Credentials in the order of tenant ids, after `after`. */
export async function listCredentials(
  db: Db,
  { after, limit }: { after: string; limit: number },
): Promise<CredentialRecord[]> {
  const rows = await db
    .select()
    .from(tenantCredentials)
    .where(sql`${tenantCredentials.tenantId} > ${after}`)
    .orderBy(tenantCredentials.tenantId)
    .limit(limit);
  return rows as CredentialRecord[];
}

/**
 * Records what a call showed about a key.
 *
 * Only if the key is still the one that was called: news of an old key says nothing about the new one.
 */
export async function recordKeyHealth(
  db: Db,
  health: { tenantId: string; fingerprint: string; status: CredentialStatus; reason: string | null },
): Promise<void> {
  await db.execute(sql`
    UPDATE infill.tenant_credentials
       SET status_since = CASE WHEN status = ${health.status} THEN status_since ELSE now() END,
           status = ${health.status}, status_reason = ${health.reason}, checked_at = now()
     WHERE tenant_id = ${health.tenantId} AND fingerprint = ${health.fingerprint}`);
}

/** Keys in a status that were not called for `idleMs` milliseconds. */
export async function listKeysToProbe(
  db: Db,
  { status, idleMs, limit }: { status: CredentialStatus; idleMs: number; limit: number },
): Promise<string[]> {
  const rows = await db.execute<{ tenantId: string }>(sql`
    SELECT tenant_id AS "tenantId" FROM infill.tenant_credentials
     WHERE status = ${status} AND coalesce(checked_at, status_since) < now() - make_interval(secs => ${idleMs / 1000})
     ORDER BY coalesce(checked_at, status_since) LIMIT ${limit}`);
  return rows.map((row) => row.tenantId);
}

/** Notes that a key in a status was asked, whatever came of it, so that others have their turn before it. */
export async function recordKeyAsked(
  db: Db,
  { tenantId, status }: { tenantId: string; status: CredentialStatus },
): Promise<void> {
  await db.execute(sql`
    UPDATE infill.tenant_credentials SET checked_at = now() WHERE tenant_id = ${tenantId} AND status = ${status}`);
}

/** Stored keys that are known not to work, by what is known of them. */
export async function countDeadKeys(db: Db): Promise<{ status: string; tenants: number }[]> {
  const rows = await db.execute<{ status: string; tenants: number }>(sql`
    SELECT status, count(*)::int AS tenants FROM infill.tenant_credentials
     WHERE status IN ('invalid', 'quota_exhausted', 'model_unavailable') GROUP BY status ORDER BY status`);
  return [...rows];
}
