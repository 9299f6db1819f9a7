/** A kind of answers that OpenAI-compatible servers give. */
import type { Habits } from '../../dev/openai-server/odd-servers.ts';

export type ServerKind = {
  /** As the page has it. */
  readonly kind: string;
  readonly habits: Habits;
  readonly rows?: number;
  /** A text of each row with this number in it; without: a plain note. */
  readonly texts?: readonly string[];
  /** Rows whose texts hold this are quarantined. */
  readonly quarantined?: { readonly marker: string; readonly words: RegExp };
  /** Rows whose texts hold this fail, and are named so. */
  readonly failed?: { readonly marker: string; readonly code: string };
  /** The tenant stops with this reason, and nothing is written. */
  readonly stops?: RegExp;
  /** The most calls that it may take. */
  readonly callsMax?: number;
  /** Further fields of the credential. */
  readonly credential?: Readonly<Record<string, unknown>>;
  /** Put behind the base URL. */
  readonly query?: string;
};

export const error = (message: string, more: object = {}) => ({ error: { message, ...more } });
export const ROWS = 40;

/** Texts of which every fifth holds the word. */
export function withEveryFifth(word: string): readonly string[] {
  return Array.from(
    { length: ROWS },
    (_, index) => `note ${index} of a tenant${index % 5 === 2 ? ` ${word}` : ''}`,
  );
}
