import { OPENAI_LIMITS } from '../core/limits.ts';
import type { UniqueInput } from '../core/packing.ts';
import type { Target } from '../core/target.ts';
import type { Tokenizer } from './deps.ts';

export type FittedInput = UniqueInput & {
  /** The text is only the beginning of the row's text. */
  readonly truncated: boolean;
};

async function isShort(tokenizer: Tokenizer, { text, bytes }: UniqueInput): Promise<boolean> {
  if (bytes <= OPENAI_LIMITS.inputBytesSafeMax) return true;
  return (await tokenizer.countTokens(text, OPENAI_LIMITS.inputTokensMax)) <= OPENAI_LIMITS.inputTokensMax;
}

/**
 * Tells the inputs that no request can hold from the others, before anything is sent.
 *
 * Only inputs that could be too long are counted: no text has more tokens than bytes. With `truncate` they are cut on a
 * token border and none is too long.
 */
export async function fitInputs(
  tokenizer: Tokenizer,
  inputs: readonly UniqueInput[],
  onTooLong: Target['onTooLong'],
): Promise<{ fitting: FittedInput[]; tooLong: UniqueInput[] }> {
  const fitting: FittedInput[] = [];
  const tooLong: UniqueInput[] = [];
  for (const input of inputs) {
    if (!input.isCut && (await isShort(tokenizer, input))) {
      fitting.push({ ...input, truncated: false });
    } else if (onTooLong === 'truncate') {
      const text = await tokenizer.truncateToTokens(input.text, OPENAI_LIMITS.inputTokensMax);
      fitting.push({ ...input, text, bytes: Buffer.byteLength(text), truncated: true });
    } else {
      tooLong.push(input);
    }
  }
  return { fitting, tooLong };
}
