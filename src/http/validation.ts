import type { FastifySchemaCompiler } from 'fastify';
import { z } from 'zod';
import { plainDecimal, plainWholeNumber } from '../core/plain-number.ts';
import { type FieldError, Problem } from './problems.ts';
import { unstorableTexts } from './stored-text.ts';

/** A whole number in a query string, in plain decimal digits. */
export function wholeNumber(min: number, max: number) {
  return z.preprocess(plainWholeNumber, z.int().min(min).max(max));
}

/** A number above 0 in a query string, in plain decimal digits: `5`, `0.25`. */
export function positiveDecimal(max: number) {
  return z.preprocess(plainDecimal, z.number().positive().max(max));
}

/** `true` or `false` in a query string, and nothing else: `dryRun=maybe` must not start a real run. */
export function flag() {
  return z.preprocess((given) => (given === 'true' ? true : given === 'false' ? false : given), z.boolean());
}

/** A parameter that may be repeated: `tenantId=a&tenantId=b`. Absent is an empty list. */
export function repeated<Item extends z.ZodType>(item: Item, countMax: number) {
  return z
    .preprocess((given) => (Array.isArray(given) ? given : [given]), z.array(item).max(countMax))
    .default([]);
}

type HttpPart = 'querystring' | 'params' | 'body' | 'headers';

/**
 * Checks a part of a request against its zod schema. Unknown parameters and unknown fields of a body are mistakes too,
 * since a misspelt `dryRun` would otherwise be a real run; and so is text that Postgres does not take.
 *
 * Fails with a {@link Problem} that names every wrong field, what is allowed and, for parameters, what was given. What a
 * body or a header held is never repeated: it may be a key.
 */
export const validatorCompiler: FastifySchemaCompiler<z.ZodType> = ({ schema, httpPart }) => {
  const part = httpPart as HttpPart;
  const strict = schema instanceof z.ZodObject && part !== 'headers' ? schema.strict() : schema;

  return (given: unknown) => {
    const unstorable = unstorableTexts(given, part);
    const parsed = strict.safeParse(given, { reportInput: true });
    if (parsed.success && unstorable.length === 0) return { value: parsed.data };
    const issues = parsed.error?.issues ?? [];
    const errors = [...unstorable, ...issues.flatMap((issue) => errorsOf(issue, strict, part, given))];
    return { error: new Problem('invalid_request', detailOf(errors), { errors }) };
  };
};

function detailOf(errors: readonly FieldError[]): string {
  return errors.map(({ field, message }) => `${field} ${message}`).join('; ');
}

function errorsOf(issue: z.core.$ZodIssue, schema: z.ZodType, part: HttpPart, given: unknown): FieldError[] {
  const field = issue.path.join('.') || (part === 'body' ? 'body' : part);
  const what = part === 'querystring' ? 'parameter' : 'field';

  if (issue.code === 'unrecognized_keys') {
    const known = fieldsOf(schemaAt(schema, issue.path));
    const instead = known.length === 0 ? `there are no ${what}s here` : `known are ${known.join(', ')}`;
    const prefix = issue.path.length === 0 ? '' : `${issue.path.join('.')}.`;
    return issue.keys.map((key) => ({
      field: `${prefix}${key.slice(0, SHOWN_MAX)}`,
      message: `is not a known ${what}: ${instead}`,
    }));
  }

  const value = valueAt(given, issue.path);
  const allowed = allowedIn(issue, schemaAt(schema, issue.path));
  if (value === undefined || (value === null && field === 'body'))
    return [{ field, message: `is missing: ${allowed}` }];
  const echo = part === 'querystring' || part === 'params' ? `, got ${shown(value)}` : '';
  return [{ field, message: `${allowed}${echo}` }];
}

const SHOWN_MAX = 60;

function shown(value: unknown): string {
  if (Array.isArray(value)) return `${value.length} values`;
  const text = JSON.stringify(value);
  return text.length <= SHOWN_MAX ? text : `${text.slice(0, SHOWN_MAX)}..."`;
}

/** The words of the schema's author if there are some, else words made from the schema. */
function allowedIn(issue: z.core.$ZodIssue, schema: z.ZodType | undefined): string {
  const usual = z.config().localeError?.(issue as z.core.$ZodRawIssue);
  const usualMessage = typeof usual === 'string' ? usual : usual?.message;
  if (issue.code === 'custom' || issue.message !== usualMessage) return issue.message;

  const words = schema && wordsFor(z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }));
  return words === undefined ? `is not valid: ${issue.message}` : `must be ${words}`;
}

type JsonSchema = z.core.JSONSchema.BaseSchema;

/** Says in words what a schema allows; undefined when it is too intricate for a sentence. */
function wordsFor(schema: JsonSchema): string | undefined {
  const options = schema.anyOf ?? schema.oneOf;
  if (options !== undefined) {
    const each = options.map((option) => wordsFor(option as JsonSchema));
    return each.includes(undefined) ? undefined : each.join(' or ');
  }
  if (schema.enum !== undefined) return `one of ${schema.enum.join(', ')}`;
  if (schema.const !== undefined) return JSON.stringify(schema.const);

  switch (schema.type) {
    case 'integer':
      return `a whole number${range(schema.minimum, schema.maximum)}`;
    case 'number':
      return `a number${range(schema.minimum, schema.maximum, schema.exclusiveMinimum as number | undefined)}`;
    case 'boolean':
      return 'true or false';
    case 'null':
      return 'null';
    case 'string':
      return wordsForText(schema);
    case 'array':
      return schema.maxItems === undefined ? 'a list' : `a list of at most ${schema.maxItems}`;
    case 'object':
      return 'a JSON object';
    default:
      return undefined;
  }
}

const NAME_BY_FORMAT: Readonly<Record<string, string>> = {
  uuid: 'a UUID',
  uri: 'a URL',
  email: 'an e-mail address',
  'date-time': 'a time such as 2025-01-31T12:00:00Z',
};

function wordsForText({ format, pattern, minLength, maxLength }: JsonSchema): string {
  if (format !== undefined && format in NAME_BY_FORMAT) return NAME_BY_FORMAT[format] as string;
  if (pattern !== undefined) return `text that matches ${pattern}`;
  if (maxLength !== undefined) return `text of ${minLength ?? 0} to ${maxLength} characters`;
  return minLength === undefined ? 'text' : `text of at least ${minLength} characters`;
}

function range(minimum: number | undefined, maximum: number | undefined, above?: number): string {
  // zod gives whole numbers these bounds when nobody else does.
  const min = minimum === Number.MIN_SAFE_INTEGER ? undefined : minimum;
  const max = maximum === Number.MAX_SAFE_INTEGER ? undefined : maximum;
  if (above !== undefined) return ` above ${above}${max === undefined ? '' : ` and at most ${max}`}`;
  if (min !== undefined && max !== undefined) return ` from ${min} to ${max}`;
  if (min !== undefined) return ` of at least ${min}`;
  return max === undefined ? '' : ` of at most ${max}`;
}

function valueAt(given: unknown, path: readonly PropertyKey[]): unknown {
  let value = given;
  for (const key of path) {
    // A single value of a repeated parameter has the path of the list that it was turned into.
    if (!Array.isArray(value) && typeof key === 'number') continue;
    value = (value as Record<PropertyKey, unknown> | null | undefined)?.[key];
  }
  return value;
}

function schemaAt(schema: z.ZodType, path: readonly PropertyKey[]): z.ZodType | undefined {
  let at: z.ZodType | undefined = unwrap(schema);
  for (const key of path) {
    if (at instanceof z.ZodObject) at = at.shape[key as string] as z.ZodType | undefined;
    else if (at instanceof z.ZodArray) at = at.element as z.ZodType;
    else return undefined;
    if (at !== undefined) at = unwrap(at);
  }
  return at;
}

/** Takes away what only surrounds a schema: optional, default, nullable, preprocess. */
function unwrap(schema: z.ZodType): z.ZodType {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault) {
    return unwrap(schema.unwrap() as z.ZodType);
  }
  if (schema instanceof z.ZodNullable) return schema;
  if (schema instanceof z.ZodPipe) {
    const inside = schema.in instanceof z.ZodTransform ? schema.out : schema.in;
    return unwrap(inside as z.ZodType);
  }
  return schema;
}

function fieldsOf(schema: z.ZodType | undefined): string[] {
  return schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
}
