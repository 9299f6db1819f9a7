import type { z } from 'zod';
import { Problem } from './problems.ts';
import { unstorableTexts } from './stored-text.ts';

/** A page's last key as the caller hands it back: opaque, so that nobody builds one. */
export function encodeCursor(key: object): string {
  return Buffer.from(JSON.stringify(key)).toString('base64url');
}

/** @throws {Problem} when it is not a cursor of this list, or holds what no key of it can be. */
export function decodeCursor<Key>(cursor: string | undefined, schema: z.ZodType<Key>): Key | null {
  if (cursor === undefined) return null;
  const key = schema.safeParse(keyIn(cursor));
  if (key.success && unstorableTexts(key.data, 'cursor').length === 0) return key.data;
  const message = 'must be the nextCursor of an answer of this very list';
  throw new Problem('invalid_request', `cursor ${message}`, { errors: [{ field: 'cursor', message }] });
}

function keyIn(cursor: string): unknown {
  try {
    return JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
  } catch {
    return undefined;
  }
}

/** Cuts the one item too many that was read to see whether there is a next page. */
export function pageOf<Item>(items: readonly Item[], limit: number, keyOf: (item: Item) => object) {
  const page = items.slice(0, limit);
  const last = page.at(-1);
  return { page, nextCursor: items.length > limit && last !== undefined ? encodeCursor(keyOf(last)) : null };
}
