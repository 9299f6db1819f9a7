/** What each trouble does, and how it is mended. */
import { Redis } from 'ioredis';
import type { ProductSlot } from './product-slot.ts';
import { FAULT_NAMES, PROVIDER_FAULTS, REFUSED_STATES } from './provider-troubles.ts';
import type { Trouble, TroubleKind } from './schedule.ts';
import { type ChaosTable, TABLES } from './tables.ts';
import { PLATFORM_KEY, PLENTY, storeKey, type World } from './world.ts';

/** What a trouble says of itself when it has begun, and how it ends. Undefined when there was nothing to strike. */
export type Begun = { readonly what: string; readonly mend?: () => Promise<unknown> } | undefined;
type Action = (world: World, trouble: Trouble) => Promise<Begun>;

export const ACTIONS: Readonly<Record<TroubleKind, Action>> = {
  worker_killed: ({ workers }, { worker }) =>
    whenAtWork(workers[worker], async (slot) => {
      await slot.kill();
      return { what: slot.name, mend: () => slot.start() };
    }),
  worker_replaced: ({ workers }, { worker }) =>
    whenAtWork(workers[worker], async (slot) => {
      const how = await slot.terminate();
      return { what: `${slot.name} ended with ${how}`, mend: () => slot.start() };
    }),
  worker_frozen: ({ workers }, { worker }) =>
    whenAtWork(workers[worker], async (slot) => {
      slot.freeze();
      return { what: slot.name, mend: async () => slot.thaw() };
    }),
  api_killed: ({ api }) =>
    whenAtWork(api, async (slot) => {
      await slot.kill();
      return { what: slot.name, mend: () => slot.start() };
    }),

  redis_killed: async ({ redis }) => {
    await redis.kill();
    return { what: 'redis', mend: () => redis.start() };
  },
  redis_flushed: async ({ redis }) => {
    const client = new Redis(redis.url, { retryStrategy: () => null, maxRetriesPerRequest: 0 });
    client.on('error', () => undefined);
    await client.flushall().finally(() => client.disconnect());
    return { what: 'FLUSHALL' };
  },

  postgres_cut: async ({ proxy }) => {
    proxy.reset();
    return { what: 'every connection' };
  },
  postgres_away: async ({ proxy }) => {
    await proxy.cut();
    return { what: 'refused', mend: () => proxy.restore() };
  },
  postgres_silent: async ({ proxy }) => {
    proxy.freeze();
    return { what: 'frozen', mend: () => proxy.restore() };
  },
  backends_terminated: async ({ database }) => ({ what: `${await database.terminateBackends()} backends` }),

  provider_fault: async ({ openai }, { pick }) => {
    const name = chosen(FAULT_NAMES, pick);
    const rule = PROVIDER_FAULTS[name];
    if (rule === undefined) return undefined;
    const id = await openai.control.addFault(rule);
    return { what: name, mend: () => openai.control.clearFaults(id) };
  },
  provider_away: async ({ openai }, { pick }) => {
    const outage = pick < 0.5 ? 'refuse' : 'unavailable';
    await openai.control.setOutage(outage);
    return { what: outage, mend: () => openai.control.setOutage('off') };
  },
  key_refused: async ({ openai, tenants }, { pick }) => {
    // Now and then the platform's, which many tenants share.
    const key =
      pick < 0.15
        ? PLATFORM_KEY
        : chosen(
            tenants.filter(({ keys }) => keys.length > 0),
            pick,
          ).keys.at(-1);
    if (key === undefined) return undefined;
    const state = chosen(REFUSED_STATES, fraction(pick * 97));
    await openai.control.setKeyState(key, state);
    return { what: `${key} is ${state}`, mend: () => openai.control.setKeyState(key, 'ok') };
  },
  key_replaced: async ({ openai, tenants, admin }, { pick }) => {
    const tenant = chosen(
      tenants.filter(({ keys }) => keys.length > 0),
      pick,
    );
    const key = `${tenant.keys[0]?.slice(0, -1)}${tenant.keys.length}`;
    // Known to be the tenant's before anybody can send it.
    tenant.keys.push(key);
    await openai.control.putKey({ key, organization: `org-${tenant.id}` });
    return (await storeKey(admin, tenant.id, key)) ? { what: tenant.id } : undefined;
  },
  limits_lowered: async ({ openai, tenants }, { pick }) => {
    const tenant = chosen(tenants, pick);
    const organization = tenant.keys.length > 0 ? `org-${tenant.id}` : 'org-platform';
    // Few enough for refusals; not so few that those who wait for a place wait for longer than the storm lasts.
    const limit = pick < 0.5 ? { requestsPerMinute: 120 } : { tokensPerMinute: 60_000 };
    await openai.control.setLimits({ organization, ...limit, burstSeconds: 5 });
    return { what: organization, mend: () => openai.control.setLimits({ organization, ...PLENTY }) };
  },

  rows_added: async ({ rows, tenants }, { pick }) => {
    const table = tableOf(pick);
    await rows.add(
      table,
      tenants.map(({ id }) => id),
      1 + Math.floor(fraction(pick * 31) * 30),
    );
    return { what: table.name };
  },
  rows_edited: async ({ rows }, { pick }) => {
    const table = tableOf(pick);
    await rows.edit(table, 1 + Math.floor(fraction(pick * 31) * 20), pick);
    return { what: table.name };
  },
  rows_deleted: async ({ rows }, { pick }) => {
    const table = tableOf(pick);
    await rows.delete(table, 1 + Math.floor(fraction(pick * 31) * 8), pick);
    return { what: table.name };
  },

  pause: (world, trouble) => press(world, trouble, 'pause'),
  resume: (world, trouble) => press(world, trouble, 'resume'),
  cancel: (world, trouble) => press(world, trouble, 'cancel'),
  retry: (world, { pick }) =>
    pressOn(world, pick, ({ runId, tenantIds }) => {
      // A tenant that the run has not planned is refused, as a misspelt one is.
      const isOfOne = pick < 0.3 && tenantIds.length > 0;
      const one = isOfOne ? `?tenantId=${encodeURIComponent(chosen(tenantIds, fraction(pick * 13)))}` : '';
      return ['POST', `/backfill-embeddings/${runId}/retry${one}`];
    }),
  change: (world, { pick }) => {
    const window = pick < 0.3 ? null : 1 + Math.floor(fraction(pick * 17) * 6);
    const body = { batchSize: 1 + Math.floor(fraction(pick * 29) * 40), window };
    return pressOn(world, pick, ({ runId }) => ['PATCH', `/backfill-embeddings/${runId}`, body]);
  },
  switched_off: async ({ admin, tenants }, { pick }) => {
    const at = fraction(pick * 11);
    const scope = pick < 0.3 ? 'global' : pick < 0.6 ? 'target' : 'tenant';
    const name = { global: undefined, target: chosen(TABLES, at).name, tenant: chosen(tenants, at).id }[
      scope
    ];
    const named = name === undefined ? {} : { name };
    const answer = await admin.call('PUT', '/switches', {
      body: { scope, ...named, hold: true, reason: 'chaos' },
    });
    if (answer.status !== 200) return undefined;
    return {
      what: `${scope} ${name ?? ''}`,
      // What stays off because the API is away is switched on when the storm is over.
      mend: () => admin.call('PUT', '/switches', { body: { scope, ...named, hold: false } }),
    };
  },
};

/** A process that is still starting is left alone: its handlers are not there yet. */
async function whenAtWork(
  slot: ProductSlot | undefined,
  strike: (slot: ProductSlot) => Promise<Begun>,
): Promise<Begun> {
  return slot?.isAtWork ? strike(slot) : undefined;
}

/** Presses a control on the newest run of a target, whatever its status. */
function press(world: World, { pick }: Trouble, control: string): Promise<Begun> {
  return pressOn(world, pick, ({ runId }) => ['POST', `/backfill-embeddings/${runId}/${control}`]);
}

/** `tenantIds` are those that the run has planned. */
type NewestRun = { runId: string; status: string; tenantIds: readonly string[] };

async function pressOn(
  { sql, admin }: World,
  pick: number,
  request: (run: NewestRun) => [method: string, path: string, body?: unknown],
): Promise<Begun> {
  const { name } = tableOf(pick);
  const [run] = await sql<NewestRun[]>`
    SELECT run_id AS "runId", status,
           ARRAY(SELECT tenant_id FROM infill.run_tenants t WHERE t.run_id = r.run_id ORDER BY tenant_id) AS "tenantIds"
      FROM infill.runs r WHERE target = ${name} ORDER BY created_at DESC LIMIT 1`;
  if (run === undefined) return undefined;
  const [method, path, body] = request(run);
  const { status } = await admin.call(method, path, body === undefined ? {} : { body });
  return { what: `${name}, ${run.status}: ${status}` };
}

function tableOf(pick: number): ChaosTable {
  return chosen(TABLES, fraction(pick * 7));
}

function chosen<T>(items: readonly T[], pick: number): T {
  const item = items[Math.floor(pick * items.length)];
  if (item === undefined) throw new Error('nothing to choose from');
  return item;
}

function fraction(value: number): number {
  return value - Math.floor(value);
}
