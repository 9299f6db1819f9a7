import { z } from 'zod';
import type { StatedLimit } from './credential.ts';

/**
 * A table that Infill keeps complete, as `targets.json` describes it.
 *
 * Names are what the operator wrote, unquoted and unchecked: `db/catalog.ts` holds them against the database before any
 * statement uses them.
 */
export type Target = {
  readonly name: string;
  readonly schema: string;
  readonly table: string;
  readonly id: string;
  /** Null for a table without tenants: all its rows belong to the one tenant `default`. */
  readonly tenant: string | null;
  /** Text columns, joined by a blank line into the text that is embedded. */
  readonly text: readonly string[];
  readonly embedding: string;
  readonly model: string;
  readonly dimensions: number;
  /** What becomes of a text that no request can hold: set aside, or cut on a token border. */
  readonly onTooLong: 'quarantine' | 'truncate';
  /** For keys that have no such limit of their own. */
  readonly requestsPerMinute?: StatedLimit | undefined;
  readonly tokensPerMinute?: StatedLimit | undefined;
};

/** The tenant of a table that has no tenant column. */
export const ONLY_TENANT = 'default';

/** pgvector stores at most this many dimensions in a `vector` column. Source: pgvector README, "Vector Types". */
export const VECTOR_DIMENSIONS_MAX = 16_000;

export const REQUESTS_PER_MINUTE_MAX = 10_000_000;
export const TOKENS_PER_MINUTE_MAX = 1_000_000_000;

/** A limit that an operator states: a whole number, or that there is none. */
export function statedLimit(max: number) {
  const error = `expected a whole number from 1 to ${max}, or "unlimited"`;
  return z.union([z.int({ error }).min(1, { error }).max(max, { error }), z.literal('unlimited')], { error });
}

const Column = z.string().min(1).max(63);

export const TargetEntry = z.strictObject({
  table: z
    .string()
    .min(1)
    .max(127)
    .describe('Table name, with its schema if that is not public: "notes" or "crm.notes".'),
  id: Column.describe('Primary key column: uuid, bigint (or integer), or text.'),
  tenant: Column.optional().describe('Column that names the tenant. Leave it out for a table of one tenant.'),
  text: z.array(Column).min(1).describe('Text columns. Several are joined by a blank line.'),
  embedding: Column.describe('The pgvector column that Infill fills.'),
  model: z.string().min(1).describe('Embedding model, for example "text-embedding-3-small".'),
  dimensions: z.int().min(1).max(VECTOR_DIMENSIONS_MAX).describe('Dimensions of the embedding column.'),
  onTooLong: z
    .enum(['quarantine', 'truncate'])
    .default('quarantine')
    .describe('What to do with a text of more tokens than the model takes.'),
  requestsPerMinute: statedLimit(REQUESTS_PER_MINUTE_MAX)
    .optional()
    .describe('Limit for keys that have none of their own: a number, or "unlimited" to guess nothing.'),
  tokensPerMinute: statedLimit(TOKENS_PER_MINUTE_MAX)
    .optional()
    .describe('Limit for keys that have none of their own: a number, or "unlimited" to guess nothing.'),
});

export const TargetsFile = z.strictObject({
  $schema: z.string().optional(),
  targets: z
    .record(z.string().min(1).max(100), TargetEntry)
    .refine((targets) => Object.keys(targets).length > 0, { error: 'expected at least one target' })
    .meta({ minProperties: 1 }),
});

/** Reads a validated `targets.json` object into targets, in the order of the file. */
export function toTargets(file: z.output<typeof TargetsFile>): ReadonlyMap<string, Target> {
  const targets = new Map<string, Target>();
  for (const [name, { table, tenant, ...entry }] of Object.entries(file.targets)) {
    const dot = table.indexOf('.');
    targets.set(name, {
      ...entry,
      name,
      schema: dot === -1 ? 'public' : table.slice(0, dot),
      table: table.slice(dot + 1),
      tenant: tenant ?? null,
    });
  }
  return targets;
}
