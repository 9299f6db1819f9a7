/**
 * What a provider said about its limits in the headers of one answer.
 *
 * Null where it said nothing. Resets are milliseconds from the moment of the answer until the bucket is full again.
 */
export type ProviderLimits = {
  readonly requestsLimit: number | null;
  readonly requestsRemaining: number | null;
  readonly requestsResetMs: number | null;
  readonly tokensLimit: number | null;
  readonly tokensRemaining: number | null;
  readonly tokensResetMs: number | null;
};
