/**
 * Looks whether a text can stand in brackets within a statement without changing what is around it. Whether it is a condition on
 * the table's rows, only the server can say (`db/condition-check.ts`).
 */

/** What begins a text of its own: until its end nothing in it counts. */
const TEXT = /^(?:[eE]'(?:[^'\\]|\\[\s\S]|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*")/;
const CLOSING: Readonly<Record<string, string>> = { '(': ')', '[': ']' };

/** Returns what is wrong with a condition, in words that follow "expected one SQL condition:"; undefined when nothing is. */
export function conditionMistake(condition: string): string | undefined {
  if (condition.trim() === '') return 'it is empty';
  if (condition.includes('\0')) return 'it has a zero byte';
  const open: string[] = [];
  for (let at = 0; at < condition.length; ) {
    const rest = condition.slice(at);
    const [text] = (startsWord(condition, at) ? TEXT.exec(rest) : PLAIN_TEXT.exec(rest)) ?? [];
    if (text !== undefined) {
      at += text.length;
      continue;
    }
    // Read on behind its e, it would be taken for a text in which backslashes mean nothing.
    if (startsWord(condition, at) && /^[eE]'/.test(rest)) return "a ' is not closed";
    const mistake = mistakeAt(rest, open);
    if (mistake !== undefined) return mistake;
    at++;
  }
  const [missing] = open.slice(-1);
  return missing === undefined ? undefined : `a "${missing}" is missing`;
}

/** As `TEXT`, behind a letter: the e of `like'%'` begins no text with backslashes. */
const PLAIN_TEXT = /^(?:'(?:[^']|'')*'|"(?:[^"]|"")*")/;

function startsWord(condition: string, at: number): boolean {
  return at === 0 || !/[\w$\u0080-\uffff]/.test(condition[at - 1] ?? '');
}

/** @param open the brackets that are to be closed, the innermost last. */
function mistakeAt(rest: string, open: string[]): string | undefined {
  const char = rest[0] ?? '';
  if (char === ';') return 'it has a ";"';
  if (char === "'" || char === '"') return `a ${char} is not closed`;
  if (char === '$') return 'it has a "$" outside of quotes: write texts in single quotes, and no parameters';
  if (rest.startsWith('--') || rest.startsWith('/*')) return 'it has a comment';
  const closing = CLOSING[char];
  if (closing !== undefined) open.push(closing);
  else if ((char === ')' || char === ']') && open.pop() !== char) return `a "${char}" closes nothing`;
  return undefined;
}

/** What may be in a condition, and not in the predicate of an index. */
const NOT_IN_INDEX =
  /\bselect\b|\bt\s*\.|\bnow\s*\(|\bage\s*\(|\brandom\s*\(|\b(?:current|local|session)_?(?:time|timestamp|date|user|role|setting|schema)\b|\b(?:clock|statement|transaction)_timestamp\b/i;

/** Whether a condition can be part of a partial index, as far as its words tell: its functions have to be immutable. */
export function isIndexable(condition: string): boolean {
  return !NOT_IN_INDEX.test(condition);
}
