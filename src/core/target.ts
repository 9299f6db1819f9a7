import { z } from 'zod';
import type { StatedLimit } from './credential.ts';
import { conditionMistake } from './sql-condition.ts';
import { NAME_BYTES_MAX, parseTableName, type TableName } from './table-name.ts';

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
  /** Another name that the table may have: the file's, as SQL reads it without quotes. */
  readonly folded?: TableName['folded'];
  readonly id: string;
  /** Null for a table without tenants: all its rows belong to the one tenant `default`. */
  readonly tenant: string | null;
  /** Text columns, joined by a blank line into the text that is embedded. */
  readonly text: readonly string[];
  readonly embedding: string;
  /** One SQL condition: rows for which it does not hold are none of Infill's business. */
  readonly where?: string | undefined;
  /** Column that holds, beside each vector, which text and model it is of. Without one an edit is not noticed. */
  readonly stamp?: string | undefined;
  readonly model: string;
  readonly dimensions: number;
  /** What becomes of a text that no request can hold: set aside, or cut on a token border. */
  readonly onTooLong: 'quarantine' | 'truncate';
  /** For keys that have no such limit of their own. */
  readonly requestsPerMinute?: StatedLimit | undefined;
  readonly tokensPerMinute?: StatedLimit | undefined;
  /** Whether requests name `dimensions`: `auto` (also when absent) finds out what the server wants. */
  readonly sendDimensions?: SendDimensions | undefined;
  /** Further fields of each request, for example `{"input_type": "document"}`. */
  readonly request?: Readonly<Record<string, unknown>> | undefined;
  /** Put before each text that is sent. */
  readonly prefix?: string | undefined;
  /** How often a worker looks for a missing row, and whether it fills what it finds. Absent: not at all. */
  readonly watch?: Watch | undefined;
};

export type Watch = {
  readonly everySeconds: number;
  /** False: a gap is only reported. */
  readonly fill: boolean;
};

export type SendDimensions = 'auto' | 'always' | 'never';

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

/** Fields of a request that Infill sets itself. */
export const RESERVED_REQUEST_FIELDS: readonly string[] = ['model', 'input', 'dimensions', 'encoding_format'];
const PREFIX_LENGTH_MAX = 2_000;
const CONDITION_LENGTH_MAX = 10_000;

const RequestFields = z
  .record(z.string().min(1).max(100), z.json())
  .refine((fields) => !Object.keys(fields).some((name) => RESERVED_REQUEST_FIELDS.includes(name)), {
    error: `expected fields other than ${RESERVED_REQUEST_FIELDS.join(', ')}: Infill sets those itself`,
  });

/** A day: who wants less than that has no use for a watch. */
const WATCH_SECONDS_MAX = 86_400;

const Column = z.string().min(1).max(63);

const NamePart = Column.refine((name) => Buffer.byteLength(name) <= NAME_BYTES_MAX, {
  error: `expected a name of at most ${NAME_BYTES_MAX} bytes`,
});

const TableField = z
  .union([
    z
      .string()
      .min(1)
      .max(300)
      .refine((text) => parseTableName(text) !== undefined, {
        error: `expected a table as SQL reads it (notes, crm.notes, "My Schema"."a.b"), each name of at most ${NAME_BYTES_MAX} bytes, or {"schema": "crm", "table": "notes"}`,
      }),
    z.strictObject({ schema: NamePart.default('public'), table: NamePart }),
  ])
  .describe(
    'Table name, with its schema if that is not public: "notes", "crm.notes", or in SQL\'s double quotes. Or {"schema": "crm", "table": "notes"}, where each name stands as it is.',
  );

const Condition = z
  .string()
  .max(CONDITION_LENGTH_MAX)
  .superRefine((condition, { addIssue }) => {
    const mistake = conditionMistake(condition);
    if (mistake !== undefined)
      addIssue({ code: 'custom', message: `expected one SQL condition on the columns of a row: ${mistake}` });
  });

const EntryFields = z.strictObject({
  table: TableField,
  id: Column.describe('Primary key column: uuid, bigint (or smaller), or text (also citext or char).'),
  tenant: Column.optional().describe('Column that names the tenant. Leave it out for a table of one tenant.'),
  text: z.array(Column).min(1).describe('Text columns. Several are joined by a blank line.'),
  embedding: Column.describe('The pgvector column that Infill fills: vector or halfvec.'),
  where: Condition.optional().describe(
    'One SQL condition on the columns of a row, for example "deleted_at IS NULL". Rows for which it does not hold are neither sent nor counted.',
  ),
  stamp: Column.optional().describe(
    'Text column of the table, nullable, in which Infill notes which text and model each vector is of. With it an edit or a new model makes a row missing.',
  ),
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
  sendDimensions: z
    .enum(['auto', 'always', 'never'])
    .optional()
    .describe(
      'Whether requests name the dimensions. "auto", the default, finds out once what the server wants: OpenAI refuses the field for some models, others need it.',
    ),
  request: RequestFields.optional().describe(
    'Further fields of each request, for example {"input_type": "document"}. Part of the identity of the model.',
  ),
  prefix: z
    .string()
    .max(PREFIX_LENGTH_MAX)
    .optional()
    .describe(
      'Put before each text that is sent, for example "search_document: ". Part of the identity of the model.',
    ),
  watch: z
    .strictObject({
      everySeconds: z
        .int()
        .min(1)
        .max(WATCH_SECONDS_MAX)
        .describe('Seconds from one look for a missing row to the next.'),
      fill: z
        .boolean()
        .default(true)
        .describe('Whether a run is started for what is found. false: it is only reported.'),
    })
    .optional()
    .describe('Lets a worker look for missing rows by itself. Leave it out to start every run by hand.'),
});

/** A stamp in another column's place would overwrite what it stands for. */
export const TargetEntry = EntryFields.refine(
  ({ stamp, id, tenant, text, embedding }) =>
    stamp === undefined || ![id, tenant, embedding, ...text].includes(stamp),
  { path: ['stamp'], error: 'expected a column of its own: it is named for something else, too' },
);

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
    const named: TableName | undefined = typeof table === 'string' ? parseTableName(table) : table;
    if (named === undefined) throw new Error(`the table of target "${name}" was not checked`);
    targets.set(name, { ...entry, ...named, name, tenant: tenant ?? null });
  }
  return targets;
}

/**
 * What a vector depends on besides its text: the model, its dimensions, the further fields of the request and the prefix.
 *
 * Canonical JSON: the same for the same settings, whatever the order in which the file has them, and without what is not set.
 * Stamps and quarantined rows go by it, so its spelling must never change.
 */
export function modelIdentity({
  model,
  dimensions,
  request,
  prefix,
}: Pick<Target, 'model' | 'dimensions' | 'request' | 'prefix'>): string {
  const hasRequest = request !== undefined && Object.keys(request).length > 0;
  return canonicalJson({
    model,
    dimensions,
    ...(prefix && { prefix }),
    ...(hasRequest && { request }),
  });
}

/** JSON with the names of each object in the order of their code units. */
function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const fields = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${fields.map(([name, field]) => `${JSON.stringify(name)}:${canonicalJson(field)}`).join(',')}}`;
}
