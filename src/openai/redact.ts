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
 * in quotation marks and in a text. Texts are found in upper and lower case, and as JSON, URLs and HTML write them. The key
 * becomes `[key]`.
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
  const foldedTexts = texts.map(folded);
  const short = foldedTexts.filter((text) => text.length >= TEXT_LENGTH_MIN && text.length < RUN_LENGTH);
  const withoutRuns = maskRuns(message, foldedTexts);
  const withoutShort = short.reduce(maskShort, withoutRuns);
  return maskQuotations(withoutShort, foldedTexts);
}

/** In lower case, character by character, so that every place stays where it is. */
function folded(text: string): string {
  const lower = text.toLowerCase();
  if (lower.length === text.length) return lower;
  return Array.from(text, (character) => {
    const one = character.toLowerCase();
    return one.length === character.length ? one : character;
  }).join('');
}

function maskShort(message: string, text: string): string {
  const low = folded(message);
  let masked = '';
  let from = 0;
  for (let at = low.indexOf(text); at !== -1; at = low.indexOf(text, from)) {
    masked += `${message.slice(from, at)}[text]`;
    from = at + text.length;
  }
  return masked + message.slice(from);
}

const ESCAPES: Readonly<Record<string, string>> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' };
const ENTITIES: Readonly<Record<string, string>> = {
  amp: '&',
  lt: '<',
  gt: '>',
  quot: '"',
  apos: "'",
  nbsp: ' ',
};

/** Undoes the escapes of JSON, of URLs and of HTML, whichever characters a server writes so. */
function withoutEscapes(message: string): string {
  return message
    .replaceAll(
      /\\(?:u([\da-f]{4})|x([\da-f]{2})|(["'\\/bfnrt]))/gi,
      (_escape, unit: string | undefined, byte: string | undefined, letter = '') => {
        const code = unit ?? byte;
        return code === undefined
          ? (ESCAPES[letter] ?? letter)
          : String.fromCharCode(Number.parseInt(code, 16));
      },
    )
    .replaceAll(/(?:%[\da-f]{2})+/gi, (bytes) =>
      Buffer.from(bytes.replaceAll('%', ''), 'hex').toString('utf8'),
    )
    .replaceAll(
      /&(?:#(\d{1,7})|#x([\da-f]{1,6})|(amp|lt|gt|quot|apos|nbsp));/gi,
      (entity, decimal, hex, name) => {
        const code = decimal === undefined ? Number.parseInt(hex ?? '', 16) : Number(decimal);
        if (name !== undefined) return ENTITIES[name.toLowerCase()] ?? entity;
        return code <= 0x10_ff_ff ? String.fromCodePoint(code) : entity;
      },
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

/**
 * Quotations that are looked up in all texts in vain; a server that quotes more than so many other things has all further
 * ones masked. Each may cost a millisecond, and a message has room for a thousand.
 */
const LOOK_UPS_MAX = 50;

function maskQuotations(message: string, foldedTexts: readonly string[]): string {
  let masked = '';
  let lookUpsLeft = LOOK_UPS_MAX;
  for (let at = 0; at < message.length; at++) {
    const mark = message.charAt(at);
    const closing = CLOSING[mark];
    masked += mark;
    // Such a mark within a word is an apostrophe.
    if (closing === undefined || /[\p{L}\p{N}]/u.test(message.charAt(at - 1))) continue;
    const rest = message.slice(at + 1, at + 1 + QUOTATION_LENGTH_MAX + closing.length);
    for (let end = rest.indexOf(closing); end !== -1; end = rest.indexOf(closing, end + 1)) {
      const quotation = folded(withoutEllipsis(rest.slice(0, end)));
      if (quotation.length < TEXT_LENGTH_MIN) continue;
      if (lookUpsLeft > 0 && !foldedTexts.some((text) => text.includes(quotation))) {
        lookUpsLeft -= 1;
        continue;
      }
      masked += `[text]${closing}`;
      at += 1 + end;
      break;
    }
  }
  return masked;
}

/** Servers cut what they quote, and put an ellipsis or half an escape in place of the rest. */
function withoutEllipsis(quotation: string): string {
  return quotation.replace(/((?<!\.)\.{2,}|…)$/u, '').replace(/\\(u[\da-f]{0,3})?$/i, '');
}

/** Looks up each window of each text among the windows of the message, as the message is the shorter of the two. */
function maskRuns(message: string, foldedTexts: readonly string[]): string {
  const startsByWindow = new Map<string, number[]>();
  const low = folded(message);
  for (let start = 0; start + RUN_LENGTH <= message.length; start++) {
    const window = low.slice(start, start + RUN_LENGTH);
    const starts = startsByWindow.get(window);
    if (starts === undefined) startsByWindow.set(window, [start]);
    else starts.push(start);
  }

  const quoted = new Set<number>();
  for (const text of foldedTexts) {
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
