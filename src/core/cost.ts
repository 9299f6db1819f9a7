/**
 * US dollars for a million tokens, at OpenAI's standard rate.
 *
 * As OpenAI's price page (https://openai.com/api/pricing) was quoted in May 2026; OpenAI bills by its page, not by this
 * table. A model that is not here has tokens but no price.
 */
export const USD_PER_MILLION_TOKENS: Readonly<Record<string, number>> = {
  'text-embedding-3-small': 0.02,
  'text-embedding-3-large': 0.13,
  'text-embedding-ada-002': 0.1,
};

/** The month in which the prices were checked, shown beside every cost. */
export const PRICES_AS_OF = '2026-05';

/**
 * Bytes a token: the most is source code, the least Chinese or base64. Measured with cl100k_base; English is 4.4.
 */
const BYTES_PER_TOKEN_MOST = 4.8;
const BYTES_PER_TOKEN_LEAST = 1.3;

/** What `tokens` of `model` cost in US dollars; null for a model whose price is not known. */
export function costUsd(model: string, tokens: number): number | null {
  if (!Object.hasOwn(USD_PER_MILLION_TOKENS, model)) return null;
  return ((USD_PER_MILLION_TOKENS[model] ?? 0) * tokens) / 1_000_000;
}

/** The fewest and the most tokens that so many UTF-8 bytes of ordinary text come to; never more than the bytes themselves. */
export function tokensRange(bytes: number): { low: number; high: number } {
  return { low: Math.ceil(bytes / BYTES_PER_TOKEN_MOST), high: Math.ceil(bytes / BYTES_PER_TOKEN_LEAST) };
}
