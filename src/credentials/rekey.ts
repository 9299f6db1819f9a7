import { EmbedError } from '../core/failures.ts';
import { recordAudit } from '../db/audit.ts';
import type { Db } from '../db/client.ts';
import { type CredentialRecord, listCredentials, replaceSeal } from '../db/tenant-credentials.ts';
import { isProven, type KeyringOptions, openSeal } from './keyring.ts';
import { sealKey, sealTermsOf } from './seal.ts';

const PAGE = 200;
/** Tenants named in an answer; their number is told in any case. */
const NAMED_MAX = 100;

export type Rekeyed = {
  /** Sealed anew with CREDENTIALS_KEY, in the present format. */
  readonly resealed: number;
  /** Sealed so already. */
  readonly unchanged: number;
  /** Sealed in the first format, beside an address that the seal does not prove. Not used until their addresses are accepted. */
  readonly unproven: Named<{ tenantId: string; baseUrl: string | null }>;
  /** Sealed with a key that is not configured, or changed since. Store these keys again. */
  readonly unreadable: Named<{ tenantId: string }>;
};

type Named<Item> = { readonly count: number; readonly items: readonly Item[] };

/**
 * Seals every stored key anew with the present CREDENTIALS_KEY that is not sealed so already.
 *
 * Afterwards CREDENTIALS_KEY_PREVIOUS can go, if nothing is left unproven or unreadable. May be repeated, and be broken off
 * at any place: a key that somebody stores meanwhile is left as it is.
 *
 * @param acceptAddresses takes the addresses beside seals of the first format for true. Whoever asks for that has looked at
 *   them: a writer of the database could have changed them.
 */
export async function rekeyCredentials(
  db: Db,
  options: KeyringOptions & { readonly sealingKey: Buffer },
  { actor, acceptAddresses }: { actor: string; acceptAddresses: boolean },
): Promise<Rekeyed> {
  let [resealed, unchanged] = [0, 0];
  const unproven: CredentialRecord[] = [];
  const unreadable: CredentialRecord[] = [];

  for (let after = ''; ; ) {
    const page = await listCredentials(db, { after, limit: PAGE });
    for (const record of page) {
      const outcome = reseal(record, options, acceptAddresses);
      if (outcome === 'unchanged') unchanged += 1;
      else if (outcome === 'unproven') unproven.push(record);
      else if (outcome === 'unreadable') unreadable.push(record);
      else if (await replaceSeal(db, record, outcome)) resealed += 1;
    }
    const last = page.at(-1);
    if (last === undefined || page.length < PAGE) break;
    after = last.tenantId;
  }

  const counts = { resealed, unchanged, unproven: unproven.length, unreadable: unreadable.length };
  await recordAudit(db, { actor, action: 'credentials.rekeyed', details: { ...counts, acceptAddresses } });
  return {
    resealed,
    unchanged,
    unproven: named(unproven, ({ tenantId, baseUrl }) => ({ tenantId, baseUrl })),
    unreadable: named(unreadable, ({ tenantId }) => ({ tenantId })),
  };
}

function reseal(
  record: CredentialRecord,
  options: KeyringOptions & { readonly sealingKey: Buffer },
  acceptAddresses: boolean,
): Buffer | 'unchanged' | 'unproven' | 'unreadable' {
  try {
    const opened = openSeal(record, options);
    if (opened.format === 1 && opened.sealingKey.equals(options.sealingKey)) return 'unchanged';
    if (opened.format === 0 && !acceptAddresses && !isProven(record, options)) return 'unproven';
    return sealKey(opened.text, sealTermsOf(record), options.sealingKey);
  } catch (error) {
    if (error instanceof EmbedError && error.code === 'key_unreadable') return 'unreadable';
    throw error;
  }
}

function named<Item>(
  records: readonly CredentialRecord[],
  itemOf: (record: CredentialRecord) => Item,
): Named<Item> {
  return { count: records.length, items: records.slice(0, NAMED_MAX).map(itemOf) };
}
