import type { Redis } from 'ioredis';
import { KEY_PREFIX_DEFAULT } from '../core/redis-address.ts';
import { accountKeyOf, type Holder, holderKeyOf, organizationKeyOf } from './account-key.ts';

/** Knows which organisation a key belongs to, once any worker has heard it from the provider. */
export type Organizations = {
  /** The account that a key's requests count against, as far as is known by now. */
  accountOf(holder: Holder, model: string): Promise<string>;
  /** Remembers what an answer's header reported. Repeating it costs nothing. */
  learn(holder: Holder, organization: string): Promise<void>;
};

/** How long Redis remembers it: 30 days. Losing it costs one answer. */
const KEPT_S = 2_592_000;
/** Keys that one process remembers. An entry is about 200 bytes. */
const KNOWN_MAX = 10_000;

export function createOrganizations(redis: Redis, keyPrefix = KEY_PREFIX_DEFAULT): Organizations {
  const keyOf = (holderKey: string) => `${keyPrefix}:organization:${holderKey}`;
  const known = new Map<string, string>();

  function remember(holderKey: string, organizationKey: string): void {
    if (known.size >= KNOWN_MAX) known.clear();
    known.set(holderKey, organizationKey);
  }

  return {
    async accountOf(holder, model) {
      const holderKey = holderKeyOf(holder);
      // Asked again until somebody knows: another worker may be the first to hear.
      const organizationKey = known.get(holderKey) ?? (await redis.get(keyOf(holderKey)));
      if (organizationKey !== null) remember(holderKey, organizationKey);
      return accountKeyOf(holder, model, organizationKey);
    },
    async learn(holder, organization) {
      const holderKey = holderKeyOf(holder);
      const organizationKey = organizationKeyOf(holder, organization);
      if (known.get(holderKey) === organizationKey) return;
      await redis.set(keyOf(holderKey), organizationKey, 'EX', KEPT_S);
      remember(holderKey, organizationKey);
    },
  };
}
