/** Runs of text shorter than this may stay: they are words that a provider and a row have in common. */
const RUN_LENGTH = 16;
/** Texts and quotations shorter than this are left alone: taking them out would take out words of the message itself. */
const TEXT_LENGTH_MIN = 4;
/** More of a message than this is not looked at, and not kept. */
const MESSAGE_LENGTH_MAX = 2_000;

/**
 * A provider's message without the key and without what the rows say.
 *
 * Some servers quote the input that they refuse. Whatever the message shares with one of the texts, for sixteen
 * characters or more, becomes `[text]`; so does a shorter text as a whole, and anything of four characters or more that stands
 * in quotation marks and in a text. Texts are found as they are and as JSON writes them. The key becomes `[key]`.
 * Costs about 60 ms for a full request, which errors are rare enough for.
 */
export function withoutSecrets(
  message: string,
  secrets: string | readonly string[],
  texts: readonly string[],
): string {
  const shortened = [secrets]
    .flat()
    .reduce((left, secret) => left.replaceAll(secret, '[key]'), message.slice(0, MESSAGE_LENGTH_MAX));
  // Escapes are undone in both, so that a text is found however it was written; one may hold them itself.
  const plain = withoutEscapes(shortened);
  const plainTexts = texts.map(withoutEscapes).filter((text, index) => text !== texts[index]);
  const masked = withoutTexts(plain, [...texts, ...plainTexts]);
  return masked === plain ? shortened : masked;
}

function withoutTexts(message: string, texts: readonly string[]): string {
  const short = texts.filter((text) => text.length >= TEXT_LENGTH_MIN && text.length < RUN_LENGTH);
  const withoutRuns = maskRuns(message, texts);
  const withoutShort = short.reduce((masked, text) => masked.replaceAll(text, '[text]'), withoutRuns);
  return maskQuotations(withoutShort, texts);
}

const ESCAPES: Readonly<Record<string, string>> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' };

/** Undoes the escapes of JSON, whichever characters a server writes so. */
function withoutEscapes(message: string): string {
  return message.replaceAll(
    /\\(?:u([\da-f]{4})|(["'\\/bfnrt]))/gi,
    (_escape, unit: string | undefined, letter = '') =>
      unit === undefined ? (ESCAPES[letter] ?? letter) : String.fromCharCode(Number.parseInt(unit, 16)),
  );
}

/** What closes a quotation, by what opens it. */
const CLOSING: Readonly<Record<string, string>> = {
  "'": "'",
  '"': '"',
  '`': '`',
  '“': '”',
  '‘': '’',
  '«': '»',
};
/** A longer quotation has been found as a run. This leaves room for an ellipsis. */
const QUOTATION_LENGTH_MAX = RUN_LENGTH + 8;

function maskQuotations(message: string, texts: readonly string[]): string {
  let masked = '';
  for (let at = 0; at < message.length; at++) {
    const mark = message.charAt(at);
    const closing = CLOSING[mark];
    masked += mark;
    // Such a mark within a word is an apostrophe.
    if (closing === undefined || /[\p{L}\p{N}]/u.test(message.charAt(at - 1))) continue;
    const rest = message.slice(at + 1, at + 1 + QUOTATION_LENGTH_MAX + closing.length);
    for (let end = rest.indexOf(closing); end !== -1; end = rest.indexOf(closing, end + 1)) {
      if (!isOfText(rest.slice(0, end), texts)) continue;
      masked += `[text]${closing}`;
      at += 1 + end;
      break;
    }
  }
  return masked;
}

function isOfText(quotation: string, texts: readonly string[]): boolean {
  // Servers cut what they quote, and put an ellipsis or half an escape in place of the rest.
  const quoted = quotation.replace(/(\.{2,}|…)$/u, '').replace(/\\(u[\da-f]{0,3})?$/i, '');
  return quoted.length >= TEXT_LENGTH_MIN && texts.some((text) => text.includes(quoted));
}

/** Looks up each window of each text among the windows of the message, as the message is the shorter of the two. */
function maskRuns(message: string, texts: readonly string[]): string {
  const startsByWindow = new Map<string, number[]>();
  for (let start = 0; start + RUN_LENGTH <= message.length; start++) {
    const window = message.slice(start, start + RUN_LENGTH);
    const starts = startsByWindow.get(window);
    if (starts === undefined) startsByWindow.set(window, [start]);
    else starts.push(start);
  }

  const quoted = new Set<number>();
  for (const text of texts) {
    if (startsByWindow.size > 0) markQuoted(text, startsByWindow, quoted);
  }
  if (quoted.size === 0) return message;

  let masked = '';
  for (let index = 0; index < message.length; index++) {
    if (!quoted.has(index)) masked += message.charAt(index);
    else if (!quoted.has(index - 1)) masked += '[text]';
  }
  return masked;
}

function markQuoted(text: string, startsByWindow: Map<string, number[]>, quoted: Set<number>): void {
  for (let at = 0; at + RUN_LENGTH <= text.length; at++) {
    const window = text.slice(at, at + RUN_LENGTH);
    const starts = startsByWindow.get(window);
    if (starts === undefined) continue;
    for (const start of starts) {
      for (let index = start; index < start + RUN_LENGTH; index++) quoted.add(index);
    }
    startsByWindow.delete(window); // marked once is enough, however often the texts repeat it
  }
}
