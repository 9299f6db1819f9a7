import { readFileSync } from 'node:fs';
import { glob } from 'node:fs/promises';

export type FoundPattern = { readonly place: string; readonly pattern: RegExp };

/** Every regular expression that is written in a file of `src`, and where. */
export async function patternsOf(root: string): Promise<FoundPattern[]> {
  const found: FoundPattern[] = [];
  for await (const path of glob('src/**/*.ts', { cwd: root })) {
    const source = readFileSync(`${root}/${path}`, 'utf8');
    for (const { text, at } of literalsOf(source)) {
      const end = text.lastIndexOf('/');
      const place = `${path}:${source.slice(0, at).split('\n').length}`;
      found.push({ place, pattern: new RegExp(text.slice(1, end), text.slice(end + 1)) });
    }
  }
  return found;
}

/** Comments, strings and templates are passed over; what is left and begins with a slash where a value may stand is a pattern. */
function literalsOf(source: string): { text: string; at: number }[] {
  const tokens =
    /\/\*[\s\S]*?\*\/|\/\/[^\n]*|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|(?<=(?:[(,=:[!&|?{]|=>)\s*|return\s+)\/(?![*/])(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[dgimsuvy]*(?!\w)/g;
  const literals: { text: string; at: number }[] = [];
  for (const { 0: text, index } of source.matchAll(tokens)) {
    if (text.startsWith('/') && !text.startsWith('/*') && !text.startsWith('//'))
      literals.push({ text, at: index });
  }
  return literals;
}

const CHARACTERS = [
  ' ',
  '\n',
  'a',
  'A',
  '1',
  '-',
  '_',
  '.',
  '*',
  '\\',
  '"',
  "'",
  ':',
  '/',
  '@',
  '(',
  '[',
  '{',
  '%',
  ',',
  '=',
];

/** Texts of `length` characters that make a pattern try as much as it can: its own words and likely characters, over and over. */
export function hardTextsFor({ source }: RegExp, length: number): string[] {
  const words = source
    .replace(/\\[a-zA-Z]|\[[^\]]*\]|\(\?<?[:=!]/g, '|')
    .replace(/\\(.)/g, '$1')
    .split(/[|()?*+{}^$]+/)
    .filter((word) => word.length > 1 && word.length < 40);
  const units = [
    ...CHARACTERS,
    ...words,
    ...words.map((word) => `${word} `),
    ...words.map((word) => ` ${word}1`),
  ];
  const repeated = (unit: string) => unit.repeat(Math.ceil(length / unit.length)).slice(0, length);
  return units.flatMap((unit) => [
    `${repeated(unit)}\u0001`,
    ...words.slice(0, 3).map((word) => `${word}${repeated(unit)}\u0001`),
  ]);
}
