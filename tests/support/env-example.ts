import { readFileSync } from 'node:fs';
import { parseEnv } from 'node:util';
import { REPOSITORY } from './dockerfile.ts';

export type EnvExample = {
  /** Variables that a person has to think about: present, and empty. */
  readonly toFillIn: readonly string[];
  /** Variables in a comment, with what the comment shows. */
  readonly shown: Readonly<Record<string, string>>;
};

/** Reads `.env.example` with the parser that Node has for such files. */
export function readEnvExample(): EnvExample {
  const text = readFileSync(`${REPOSITORY}/.env.example`, 'utf8');
  const shown = text
    .split('\n')
    .filter((line) => /^#[A-Z_]+=/.test(line))
    .map((line) => line.slice(1));
  return {
    toFillIn: Object.keys(parseEnv(text)),
    shown: parseEnv(shown.join('\n')) as Record<string, string>,
  };
}
