/** The routes of the kill switches. */
import { z } from 'zod';
import { recordAudit } from '../db/audit.ts';
import type { Db } from '../db/client.ts';
import { holdSwitch, listSwitches, releaseSwitch } from '../db/switches.ts';
import { actorOf } from './auth.ts';
import { Problem } from './problems.ts';
import { requireServices } from './readiness.ts';
import type { AdminApp } from './server.ts';
import { storedTenantId, type TenantIdDeps, tenantSpellings } from './tenant-ids.ts';

const SCOPES = ['global', 'target', 'tenant'] as const;

const SwitchBody = z.object({
  scope: z.enum(SCOPES),
  name: z.string().min(1).max(200).optional().describe('The target or the tenant. Not for scope global.'),
  hold: z.boolean().describe('true: admit nothing more. false: go on.'),
  reason: z.string().min(1).max(500).optional().describe('Shown on every run that is held.'),
});

const SwitchesShape = z.object({
  items: z.array(
    z.object({
      scope: z.enum(SCOPES),
      name: z.string(),
      reason: z.string().nullable(),
      actor: z.string(),
      since: z.string(),
    }),
  ),
});

/** Registers the routes under `/api/v1/admin`. */
export function switchRoutes(deps: TenantIdDeps & { readonly db: Db }) {
  const { db, targets } = deps;
  return (app: AdminApp): void => {
    app.get(
      '/switches',
      {
        preHandler: requireServices(['postgres']),
        schema: { summary: 'List what is switched off', response: { 200: SwitchesShape } },
      },
      async () => ({ items: await listSwitches(db) }),
    );
    app.put(
      '/switches',
      {
        preHandler: requireServices(['postgres']),
        schema: {
          summary: 'Hold everything, a target or a tenant; or let it go on',
          description:
            'Takes effect at once: batches in hand go on to their end, no other starts, whether it is on Redis yet or not. ' +
            'May be repeated.',
          body: SwitchBody,
          response: { 200: SwitchesShape },
        },
      },
      async (request) => {
        const { scope, name = '', hold, reason = null } = request.body;
        if ((scope === 'global') !== (name === '')) {
          const message = scope === 'global' ? 'must be left out for scope global' : `must name the ${scope}`;
          throw new Problem('invalid_request', `name ${message}`, { errors: [{ field: 'name', message }] });
        }
        // What is held may be let go on under any name, also a target that is out of the file by now.
        if (hold && scope === 'target' && !targets.has(name)) {
          const message = `must be one of ${[...targets.keys()].join(', ')}`;
          throw new Problem('invalid_request', `name ${message}`, { errors: [{ field: 'name', message }] });
        }
        const actor = actorOf(request);
        const names = scope === 'tenant' ? await tenantNames(deps, name, hold) : [name];
        await db.transaction(async (tx) => {
          for (const one of names) {
            if (hold) await holdSwitch(tx as unknown as Db, { scope, name: one, reason, actor });
            else await releaseSwitch(tx as unknown as Db, { scope, name: one });
          }
          const action = hold ? 'switch.held' : 'switch.released';
          await recordAudit(tx as unknown as Db, {
            actor,
            action,
            subject: name === '' ? scope : `${scope} ${names[0]}`,
            details: { reason },
          });
        });
        return { items: await listSwitches(db) };
      },
    );
  };
}

/** A tenant is held under the spelling by which its batches find that out, and let go on under any. */
async function tenantNames(deps: TenantIdDeps, name: string, hold: boolean): Promise<string[]> {
  return hold ? [await storedTenantId(deps, name, 'name')] : tenantSpellings(deps, name);
}
