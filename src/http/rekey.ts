/** The route that seals the stored keys anew. */
import { z } from 'zod';
import type { KeyringOptions } from '../credentials/keyring.ts';
import { type Rekeyed, rekeyCredentials } from '../credentials/rekey.ts';
import type { Db } from '../db/client.ts';
import { actorOf } from './auth.ts';
import { sealingOff } from './credentials.ts';
import { requireServices } from './readiness.ts';
import type { AdminApp } from './server.ts';
import { flag } from './validation.ts';

const RekeyShape = z.object({
  message: z.string(),
  resealed: z.int().describe('Sealed anew with CREDENTIALS_KEY.'),
  unchanged: z.int().describe('Sealed so already.'),
  unproven: z
    .object({
      count: z.int(),
      items: z.array(z.object({ tenantId: z.string(), baseUrl: z.string().nullable() })),
    })
    .describe('Sealed in the first format, which does not prove the address. Not used until it is accepted.'),
  unreadable: z
    .object({ count: z.int(), items: z.array(z.object({ tenantId: z.string() })) })
    .describe('Sealed with a key that is not configured, or changed since.'),
});

export type RekeyRoutesDeps = { readonly db: Db; readonly keys: KeyringOptions };

/** Registers `POST /api/v1/admin/credentials/rekey`. */
export function rekeyRoutes({ db, keys }: RekeyRoutesDeps) {
  return (app: AdminApp): void => {
    app.post(
      '/credentials/rekey',
      {
        preHandler: requireServices(['postgres']),
        schema: {
          summary: 'Seal all stored keys anew with CREDENTIALS_KEY',
          description:
            'Reads seals of CREDENTIALS_KEY_PREVIOUS and of the first format. May be repeated. The lists name the first 100 tenants.',
          querystring: z.object({
            acceptAddresses: flag()
              .default(false)
              .describe(
                'Takes the addresses beside seals of the first format for true. Look at them before: `unproven` lists them.',
              ),
          }),
          response: { 200: RekeyShape },
        },
      },
      async (request) => {
        const { sealingKey } = keys;
        if (sealingKey === null) throw sealingOff();
        const rekeyed = await rekeyCredentials(
          db,
          { ...keys, sealingKey },
          { actor: actorOf(request), acceptAddresses: request.query.acceptAddresses },
        );
        return { message: messageOf(rekeyed), ...copied(rekeyed) };
      },
    );
  };
}

function copied({ unproven, unreadable, ...counts }: Rekeyed) {
  return {
    ...counts,
    unproven: { ...unproven, items: [...unproven.items] },
    unreadable: { ...unreadable, items: [...unreadable.items] },
  };
}

function messageOf({ resealed, unchanged, unproven, unreadable }: Rekeyed): string {
  const done = `Sealed ${resealed} ${resealed === 1 ? 'key' : 'keys'} anew; ${unchanged} needed nothing.`;
  const left = [
    ...(unproven.count > 0
      ? [
          `${unproven.count} have an address that their old seal does not prove: check the addresses, then repeat with acceptAddresses=true.`,
        ]
      : []),
    ...(unreadable.count > 0
      ? [
          `${unreadable.count} do not open with CREDENTIALS_KEY or CREDENTIALS_KEY_PREVIOUS: store these keys again.`,
        ]
      : []),
  ];
  return [done, ...(left.length === 0 ? ['CREDENTIALS_KEY_PREVIOUS is not needed any more.'] : left)].join(
    ' ',
  );
}
