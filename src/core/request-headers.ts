/** Further headers of requests to a provider: their rules, for the platform's and for those of a credential. */
import { z } from 'zod';

/** The header that holds the key where nothing else is said: `Authorization: Bearer …`. Any other holds the bare key. */
export const API_KEY_HEADER_DEFAULT = 'authorization';

const HEADERS_MAX = 10;
const NAME_LENGTH_MAX = 100;
const VALUE_LENGTH_MAX = 4_000;
/** What the request itself decides. */
const RESERVED: readonly string[] = [
  'accept',
  'accept-encoding',
  'connection',
  'content-encoding',
  'content-length',
  'content-type',
  'cookie',
  'expect',
  'host',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
];

const NAME = `expected the name of a header, such as "api-key", and none of ${RESERVED.join(', ')}`;
const FIELDS = `expected at most ${HEADERS_MAX} headers by name, such as {"x-gateway": "..."}, each named once`;
const VALUE = `expected values of printable ASCII, 1 to ${VALUE_LENGTH_MAX} characters without blanks around them`;

const isName = (name: string) =>
  name.length <= NAME_LENGTH_MAX &&
  /^[!#$%&'*+.^_`|~\w-]+$/.test(name) &&
  !RESERVED.includes(name.toLowerCase());
const isValue = (value: string) =>
  value.length <= VALUE_LENGTH_MAX && /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(value);
const lowerCase = (fields: Record<string, string>) =>
  Object.fromEntries(Object.entries(fields).map(([name, value]) => [name.toLowerCase(), value]));

/** The name of a header, in lower case. */
export const HeaderName = z
  .string({ error: NAME })
  .refine(isName, { error: NAME })
  .transform((name) => name.toLowerCase());

/** Up to ten headers by name. No mistake repeats a value. */
export const HeaderFields = z
  .record(z.string(), z.string(), { error: FIELDS })
  .refine((fields) => Object.keys(fields).every(isName), { error: NAME })
  .refine((fields) => Object.values(fields).every(isValue), { error: VALUE })
  .refine(
    (fields) =>
      Object.keys(fields).length <= HEADERS_MAX &&
      Object.keys(lowerCase(fields)).length === Object.keys(fields).length,
    { error: FIELDS },
  )
  .transform(lowerCase);

export type HeaderFields = Readonly<Record<string, string>>;
