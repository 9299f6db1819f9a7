import type { HeaderFields } from './request-headers.ts';

/** Units a minute that an operator set; null where only the provider's own limits count, `unlimited` where nothing is to be guessed either. */
export type StatedLimit = number | 'unlimited' | null;

/** A key that may call a provider on behalf of one tenant, unsealed and in memory only: never in a job, a log or an error. */
export type Credential = {
  readonly apiKey: string;
  /** Where the key may be sent, without a trailing slash: `https://api.openai.com/v1`. */
  readonly baseUrl: string;
  /** Sent as `OpenAI-Organization`; null sends nothing, whatever the environment says. */
  readonly organization: string | null;
  /** The header that holds the key, in lower case; absent: `authorization`, as a bearer token. Any other holds the bare key. */
  readonly apiKeyHeader?: string | undefined;
  /** Further headers of each request, by name in lower case. As secret as the key. */
  readonly headers?: HeaderFields | undefined;
  /** What this provider calls the target's model, for example the name of a deployment; absent: as the target does. */
  readonly model?: string | undefined;
  /** SHA-256 of the key, and of header, headers and model where they are set; hex, cut to 16 characters: tells keys apart without telling them. */
  readonly fingerprint: string;
  /** Whose key it is: the tenant's own, or the platform's. */
  readonly owner: 'tenant' | 'platform';
  readonly requestsPerMinute: StatedLimit;
  readonly tokensPerMinute: StatedLimit;
  /** Share of the free capacity relative to other tenants; 1 is normal. */
  readonly weight: number;
};

type StatedLimits = {
  readonly requestsPerMinute?: StatedLimit | undefined;
  readonly tokensPerMinute?: StatedLimit | undefined;
};

/**
 * The credential with the limits that hold for a target: a tenant's own are the most specific, then come the target's, and the
 * platform's are what is left.
 */
export function withTargetLimits(credential: Credential, target: StatedLimits): Credential {
  return { ...credential, ...statedLimits(credential.owner, credential, target) };
}

/** The limits of a key of that owner, for a target. */
export function statedLimits(
  owner: Credential['owner'],
  own: StatedLimits,
  target: StatedLimits,
): Pick<Credential, 'requestsPerMinute' | 'tokensPerMinute'> {
  const [first, second] = owner === 'tenant' ? [own, target] : [target, own];
  return {
    requestsPerMinute: first.requestsPerMinute ?? second.requestsPerMinute ?? null,
    tokensPerMinute: first.tokensPerMinute ?? second.tokensPerMinute ?? null,
  };
}
