import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { EmbedError } from '../../src/core/failures.ts';
import { storeCredential, type TryKey } from '../../src/credentials/store.ts';
import { probeKeys } from '../../src/workers/key-probe.ts';
import { openStory, type Story } from '../support/story.ts';

let story: Story;
const KEYS = {
  platformKey: null,
  defaultBaseUrl: 'http://provider.test/v1',
  policy: 'required' as const,
  sealingKey: randomBytes(32),
};
const NEVER = new AbortController().signal;

beforeAll(async () => {
  story = await openStory();
});
afterAll(() => story.close());
beforeEach(() => story.sql`TRUNCATE infill.tenant_credentials, infill.leases`);

/** Stores a key whose account had no money left two hours ago. */
async function addExhausted(tenantId: string, keys = KEYS): Promise<void> {
  const request = { apiKey: `sk-of-${tenantId}` };
  await storeCredential(story.deps.db, keys, { tenantId, request, actor: 'test', tryKey: null });
  await story.sql`
    UPDATE infill.tenant_credentials SET status = 'quota_exhausted', checked_at = now() - interval '2 hours'
     WHERE tenant_id = ${tenantId}`;
}

/** Asks for every key with a tenant's fingerprint, and answers as `outcome` says. */
function asking(outcome: (apiKey: string) => void) {
  const asked: string[] = [];
  const tryKey: TryKey = async ({ apiKey }) => {
    asked.push(apiKey);
    outcome(apiKey);
  };
  return {
    asked,
    probe: (signal = NEVER) => probeKeys(story.deps.db, KEYS, { tryKey, holder: 'w1', signal }),
  };
}

const statuses = async () =>
  Object.fromEntries(
    (await story.sql`SELECT tenant_id, status FROM infill.tenant_credentials`).map((row) => [
      row.tenant_id,
      row.status,
    ]),
  );

describe('the hourly look at keys without money left', () => {
  test('finds those that have money again, and asks the others no sooner than in an hour', async () => {
    await addExhausted('acme');
    await addExhausted('globex');
    const { asked, probe } = asking((apiKey) => {
      if (apiKey === 'sk-of-globex') throw new EmbedError('quota_exhausted');
    });

    await probe();
    await probe();

    expect(asked.toSorted()).toEqual(['sk-of-acme', 'sk-of-globex']);
    expect(await statuses()).toEqual({ acme: 'valid', globex: 'quota_exhausted' });
  });

  test('goes past a key that does not open', async () => {
    await addExhausted('another seal', { ...KEYS, sealingKey: randomBytes(32) });
    await addExhausted('acme');
    const { asked, probe } = asking(() => undefined);

    await probe();

    expect(asked).toEqual(['sk-of-acme']);
    expect(await statuses()).toEqual({ acme: 'valid', 'another seal': 'quota_exhausted' });
  });

  test.each([
    ['a provider that is down', new EmbedError('provider_failed')],
    ['a bug', new TypeError('a bug')],
  ])(
    'asks more keys than it takes at once in turn, whatever becomes of the first: %s',
    async (_name, error) => {
      for (let index = 0; index < 22; index++) await addExhausted(`tenant ${index}`);
      const { asked, probe } = asking(() => {
        throw error;
      });

      for (let look = 0; look < 3; look++) await probe().catch(() => undefined);

      expect(asked).toHaveLength(22);
      expect(new Set(asked).size).toBe(22);
    },
  );

  test('takes no longer than the slowest key, since it asks them side by side', async () => {
    for (const tenant of ['acme', 'globex', 'hooli']) await addExhausted(tenant);
    let arrived = 0;
    let open = (): void => undefined;
    const all = new Promise<void>((resolve) => {
      open = resolve;
    });
    const tryKey: TryKey = async () => {
      arrived += 1;
      if (arrived === 3) open();
      await all;
    };

    await probeKeys(story.deps.db, KEYS, { tryKey, holder: 'w1', signal: NEVER });

    expect(arrived).toBe(3);
  });

  test('leaves a key that it was stopped at to the next worker', async () => {
    await addExhausted('acme');
    const stopping = new AbortController();
    const stopped = asking(() => {
      stopping.abort();
      throw new EmbedError('shutting_down');
    });
    await stopped.probe(stopping.signal);
    await story.sql`TRUNCATE infill.leases`;

    const next = asking(() => undefined);
    await next.probe();

    expect(next.asked).toEqual(['sk-of-acme']);
  });
});
