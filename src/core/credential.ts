/** A key that may call a provider on behalf of one tenant, unsealed and in memory only: never in a job, a log or an error. */
export type Credential = {
  readonly apiKey: string;
  /** Where the key may be sent, without a trailing slash: `https://api.openai.com/v1`. */
  readonly baseUrl: string;
  /** Whether that address is the tenant's own choice, and not the one that everybody's keys go to. */
  readonly hasOwnEndpoint: boolean;
  /** Sent as `OpenAI-Organization`; null sends nothing, whatever the environment says. */
  readonly organization: string | null;
  /** SHA-256 of the key, hex, cut to 16 characters: tells keys apart without telling the key. */
  readonly fingerprint: string;
  /** Whose key it is: the tenant's own, or the platform's. */
  readonly owner: 'tenant' | 'platform';
  /** Fixed limits that the operator set; null where only the provider's own count. */
  readonly requestsPerMinute: number | null;
  readonly tokensPerMinute: number | null;
  /** Share of the free capacity relative to other tenants; 1 is normal. */
  readonly weight: number;
};
