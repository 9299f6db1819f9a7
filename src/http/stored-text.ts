import type { FieldError } from './problems.ts';

const ALLOWED = 'must be text that can be stored: no NUL character, no half of a surrogate pair';

/**
 * Names every text in what a caller sent that Postgres would not take: one with a NUL character or half of a surrogate
 * pair. JSON and percent-encoding can both bring such.
 *
 * `whole` is the name of the field where `given` itself is the text.
 */
export function unstorableTexts(given: unknown, whole: string): FieldError[] {
  const errors: FieldError[] = [];
  // A list of what is left to look at, not a recursion: a body may be nested deeper than the stack.
  const left: { readonly path: string; readonly value: unknown }[] = [{ path: '', value: given }];
  for (let at = left.pop(); at !== undefined; at = left.pop()) {
    const { path, value } = at;
    if (typeof value === 'string') {
      if (!isStorable(value)) errors.push({ field: path === '' ? whole : path, message: ALLOWED });
    } else if (typeof value === 'object' && value !== null) {
      for (const [key, inside] of Object.entries(value))
        left.push({ path: path === '' ? key : `${path}.${key}`, value: inside });
    }
  }
  return errors;
}

function isStorable(text: string): boolean {
  return text.isWellFormed() && !text.includes('\0');
}
