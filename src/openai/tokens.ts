/**
 * Counts and cuts by tokens, as OpenAI's embedding models count them (cl100k_base).
 *
 * Only for texts over `inputBytesSafeMax`: the table takes 0.2 s and 17 MB to load, and is loaded at the first call.
 */

/** Characters of one word, or of one run of spaces or signs, that are encoded at a time; see `pieces`. */
const PIECE_CHARS_MAX = 400;

type Encoding = {
  readonly countPiece: (piece: string) => number;
  readonly split: RegExp;
  readonly forget: () => void;
};
let encoding: Promise<Encoding> | undefined;

/**
 * Tokens of a text. Past `tokensMax` it stops counting and returns what it has by then, which is more than `tokensMax`.
 *
 * Exact but for runs of more than 400 characters without a border between words, which it may take for a few tokens more.
 */
export async function countTokens(
  text: string,
  tokensMax: number = Number.POSITIVE_INFINITY,
): Promise<number> {
  const { tokens, next } = await walk(text, tokensMax);
  return tokens + next;
}

/**
 * The longest beginning of a text that ends between two words and has at most `tokensMax` tokens.
 *
 * Ends on a token border and never inside a character. The whole text if it fits; empty if not even its first word does.
 */
export async function truncateToTokens(text: string, tokensMax: number): Promise<string> {
  return text.slice(0, (await walk(text, tokensMax)).end);
}

/** Walks a text as far as `tokensMax` reaches: tokens and characters until there, and the tokens of the piece that is too much. */
async function walk(text: string, tokensMax: number): Promise<{ tokens: number; end: number; next: number }> {
  encoding ??= loadEncoding();
  const { countPiece, split, forget } = await encoding;
  let tokens = 0;
  let end = 0;
  try {
    for (const piece of pieces(text, split)) {
      const more = countPiece(piece);
      if (tokens + more > tokensMax) return { tokens, end, next: more };
      tokens += more;
      end += piece.length;
    }
  } finally {
    forget();
  }
  return { tokens, end, next: 0 };
}

/**
 * Cuts a text where the tokeniser cuts it before it merges bytes: no token crosses such a border.
 *
 * A longer run is cut on, since merging takes the square of its length: 36 s for 200,000 spaces, 0.4 s in pieces.
 */
function* pieces(text: string, split: RegExp): Generator<string> {
  for (const [word] of text.matchAll(split)) {
    let start = 0;
    while (word.length - start > PIECE_CHARS_MAX) {
      const end = start + PIECE_CHARS_MAX - (startsPair(word, start + PIECE_CHARS_MAX - 1) ? 1 : 0);
      yield word.slice(start, end);
      start = end;
    }
    yield word.slice(start);
  }
}

function startsPair(text: string, index: number): boolean {
  const unit = text.charCodeAt(index);
  return unit >= 0xd800 && unit <= 0xdbff;
}

async function loadEncoding(): Promise<Encoding> {
  const [{ countTokens: count, clearMergeCache }, { CL100K_TOKEN_SPLIT_REGEX: split }] = await Promise.all([
    import('gpt-tokenizer/encoding/cl100k_base'),
    import('gpt-tokenizer/encodingParams/constants'),
  ]);
  // Without this it throws on a text that says "<|endoftext|>"; the API takes such a text as plain text.
  const plain = { disallowedSpecial: new Set<string>() };
  return {
    countPiece: (piece) => count(piece, plain),
    split,
    forget: clearMergeCache, // it keeps pieces of the rows' texts
  };
}
