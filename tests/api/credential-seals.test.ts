import { createCipheriv, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openKey } from '../../src/credentials/seal.ts';
import { jsonBody, type System, startSystem } from '../support/system.ts';

const KEY = 'sk-key-of-acme-0001';

let system: System;

beforeAll(async () => {
  system = await startSystem();
  system.openai.accounts.put({ key: KEY, organization: 'org-acme' });
});
afterAll(() => system.close());
beforeEach(async () => {
  await system.sql`TRUNCATE notes, infill.tenant_credentials, infill.audit_events`;
  await system.addRows([
    { tenant: 'acme', text: 'a note of acme' },
    { tenant: 'globex', text: 'a note of globex' },
  ]);
  system.openai.ledger.reset();
});

const sealingKey = () => Buffer.from(system.env.CREDENTIALS_KEY ?? '', 'base64');
const put = (body: unknown, tenant = 'acme') =>
  system.call('PUT', `/api/v1/admin/tenants/${tenant}/credential`, jsonBody(body));

test('a key is not sent to an address that somebody wrote into the database, and its tenant says so', async () => {
  await put({ apiKey: KEY });
  // The very address that it goes to otherwise: nothing but the seal can tell.
  await system.sql`UPDATE infill.tenant_credentials SET base_url = ${system.openai.url}`;
  system.openai.ledger.reset();

  const run = await system.backfill();

  expect(run).toMatchObject({ status: 'incomplete', rows: { embedded: 1, remaining: 1 } });
  expect(run.reason).toContain('acme: key_unreadable');
  expect(system.openai.ledger.callsBy(KEY)).toEqual([]);
});

describe('sealing all keys anew', () => {
  const rekey = (query = '') => system.call('POST', `/api/v1/admin/credentials/rekey${query}`);
  const plant = async (tenantId: string, sealedKey: Buffer, baseUrl: string | null) => {
    await put({ apiKey: KEY }, tenantId);
    await system.sql`UPDATE infill.tenant_credentials SET sealed_key = ${sealedKey}, base_url = ${baseUrl} WHERE tenant_id = ${tenantId}`;
  };
  const firstFormat = (tenantId: string) => {
    const nonce = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', sealingKey(), nonce);
    cipher.setAAD(Buffer.from(tenantId));
    const sealed = Buffer.concat([cipher.update(KEY), cipher.final()]);
    return Buffer.concat([nonce, cipher.getAuthTag(), sealed]);
  };

  test('takes seals of the first format, but an address beside them only when it is accepted', async () => {
    await put({ apiKey: KEY });
    await plant('proven', firstFormat('proven'), null);
    await plant('unproven', firstFormat('unproven'), 'https://own.example/v1');
    await plant('broken', randomBytes(80), null);

    const careful = await rekey();
    const accepting = await rekey('?acceptAddresses=true');

    expect(careful).toMatchObject({
      status: 200,
      body: {
        resealed: 1,
        unchanged: 1,
        unproven: { count: 1, items: [{ tenantId: 'unproven', baseUrl: 'https://own.example/v1' }] },
        unreadable: { count: 1, items: [{ tenantId: 'broken' }] },
      },
    });
    expect(careful.body.message).toContain('acceptAddresses=true');
    expect(accepting.body).toMatchObject({ resealed: 1, unchanged: 2, unproven: { count: 0 } });
    const [row] =
      await system.sql`SELECT sealed_key FROM infill.tenant_credentials WHERE tenant_id = 'unproven'`;
    const terms = { tenantId: 'unproven', baseUrl: 'https://own.example/v1', organization: null };
    expect(openKey(row?.sealed_key, terms, [sealingKey()])).toMatchObject({ text: KEY, format: 1 });
    const [audit] =
      await system.sql`SELECT details FROM infill.audit_events WHERE action = 'credentials.rekeyed'`;
    expect(audit?.details).toMatchObject({ resealed: 1, unproven: 1, unreadable: 1 });
  });

  test('says when the key before is not needed any more, and may be repeated', async () => {
    await put({ apiKey: KEY });
    for (let i = 0; i < 2; i += 1) {
      expect((await rekey()).body).toMatchObject({ resealed: 0, unchanged: 1, unreadable: { count: 0 } });
      expect((await rekey()).body.message).toContain('CREDENTIALS_KEY_PREVIOUS is not needed');
    }
  });
});
