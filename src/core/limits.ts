import assert from 'node:assert/strict';

/** What one request and one input may hold. */
export type EmbeddingLimits = {
  readonly requestInputsMax: number;
  readonly requestTokensMax: number;
  /** A request is filled to this many bytes of text, since counting tokens costs more than it saves. */
  readonly requestBytesMax: number;
  readonly inputTokensMax: number;
  /** An input of at most this many bytes is within `inputTokensMax` whatever it says, so nobody needs to count. */
  readonly inputBytesSafeMax: number;
};

/**
 * OpenAI's limits of `POST /v1/embeddings`.
 *
 * Source: the API reference of embeddings, "input": at most 2,048 inputs, 8,192 tokens an input for all embedding models,
 * 300,000 tokens in all. One token less an input is used here, as OpenAI's own pages have said both 8,191 and 8,192.
 * No text has more tokens than UTF-8 bytes: the tokeniser merges bytes and never adds one.
 */
export const OPENAI_LIMITS = {
  requestInputsMax: 2_048,
  requestTokensMax: 300_000,
  requestBytesMax: 280_000,
  inputTokensMax: 8_191,
  inputBytesSafeMax: 8_191,
} as const satisfies EmbeddingLimits;

assert(
  OPENAI_LIMITS.requestBytesMax < OPENAI_LIMITS.requestTokensMax,
  'a request filled by bytes is within its tokens',
);
assert(
  OPENAI_LIMITS.inputBytesSafeMax <= OPENAI_LIMITS.inputTokensMax,
  'an input safe by bytes is within its tokens',
);
assert(OPENAI_LIMITS.inputTokensMax < OPENAI_LIMITS.requestTokensMax, 'a request holds the longest input');
