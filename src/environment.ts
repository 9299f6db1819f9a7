/** The environment variables that Infill reads: their types, defaults and descriptions. */
import { z } from 'zod';
import { plainDecimal, plainWholeNumber } from './core/plain-number.ts';
import { PostgresAddressError, parsePostgresAddress } from './core/postgres-address.ts';
import { REDIS_MODES } from './core/redis-address.ts';
import { API_KEY_HEADER_DEFAULT, HeaderFields, HeaderName } from './core/request-headers.ts';
import { REQUESTS_PER_MINUTE_MAX, TOKENS_PER_MINUTE_MAX } from './core/target.ts';

/** `isReadable` says whether whoever connects can take it apart: what cannot be would be found out later, one at a time. */
function url(protocols: string, expected: string, isReadable = (text: string) => URL.canParse(text)) {
  const pattern = new RegExp(`^(${protocols})://.+`);
  const isUsable = (text: string) => pattern.test(text) && isReadable(text);
  return z.string().refine(isUsable, { error: `expected ${expected}` });
}

function postgresUrl() {
  return z.string().superRefine((text, context) => {
    try {
      parsePostgresAddress(text);
    } catch (error) {
      if (!(error instanceof PostgresAddressError)) throw error;
      context.addIssue({ code: 'custom', message: error.message });
    }
  });
}

function wholeNumber(min: number, max: number) {
  const error = `expected a whole number from ${min} to ${max}`;
  return z.preprocess(plainWholeNumber, z.int({ error }).min(min, { error }).max(max, { error }));
}

function positiveDecimal(max: number) {
  const error = `expected a number above 0, at most ${max}`;
  return z.preprocess(plainDecimal, z.number({ error }).positive({ error }).max(max, { error }));
}

function statedLimit(max: number) {
  const error = `expected a whole number from 1 to ${max}, or unlimited`;
  const read = (text: unknown) => (text === 'unlimited' ? text : plainWholeNumber(text));
  return z.preprocess(
    read,
    z.union([z.int({ error }).min(1, { error }).max(max, { error }), z.literal('unlimited')], { error }),
  );
}

/** What is no JSON stays as it is, for the schema to refuse. */
function jsonOf(text: unknown): unknown {
  try {
    return typeof text === 'string' ? JSON.parse(text) : text;
  } catch {
    return text;
  }
}

const port = wholeNumber(0, 65_535);

export const TARGETS_FILE_DEFAULT = 'targets.json';

const SECRET_LENGTH_MIN = 16;
const secret = z
  .string()
  .refine((value) => value.length >= SECRET_LENGTH_MIN && value.trim() !== '', {
    error: `expected at least ${SECRET_LENGTH_MIN} characters, and not only blanks`,
  })
  .refine((value) => value.length < SECRET_LENGTH_MIN || !isOneCharacter(value.trim()), {
    error: 'expected a secret that nobody can guess, not one character repeated',
  });

const SEALING_KEY = '32 bytes in base64, as `openssl rand -base64 32` prints them';
const sealingKey = z
  .string()
  .refine((value) => Buffer.from(value, 'base64').length === 32, { error: `expected ${SEALING_KEY}` })
  .refine((value) => new Set(Buffer.from(value, 'base64')).size > 1, {
    error: `expected ${SEALING_KEY.replace('32', '32 random')}, not one byte repeated`,
  });

function isOneCharacter(text: string): boolean {
  return text !== '' && text === text.charAt(0).repeat(text.length);
}

const VARIABLES = {
  DATABASE_URL: postgresUrl().describe(
    'PostgreSQL with pgvector: holds the tables of the targets and the schema `infill`.',
  ),
  DATABASE_POOLER: z
    .enum(['none', 'transaction'])
    .optional()
    .describe(
      'Whether `DATABASE_URL` leads to a pooler that gives each transaction another connection (PgBouncer, Supavisor, Neon). Default: found out at the first connection.',
    ),
  DATABASE_DIRECT_URL: postgresUrl()
    .optional()
    .describe(
      'Address of the same database without a pooler. Only `migrate` uses it; default: `DATABASE_URL`.',
    ),
  REDIS_URL: z
    .string()
    .min(1)
    .describe(
      'Redis for BullMQ, with `maxmemory-policy noeviction`. Several addresses, separated by commas, for a cluster or sentinels.',
    ),
  REDIS_MODE: z
    .enum(REDIS_MODES)
    .default('standalone')
    .describe('What is at `REDIS_URL`: one server, nodes of a cluster, or sentinels.'),
  REDIS_SENTINEL_NAME: z
    .string()
    .min(1)
    .optional()
    .describe('Name under which the sentinels know the primary. Needed with `REDIS_MODE=sentinel`.'),
  REDIS_PREFIX: z
    .string()
    .regex(/^[A-Za-z0-9._-]{1,40}$/, {
      error: 'expected 1 to 40 letters, digits, dots, dashes or underscores',
    })
    .default('infill')
    .describe(
      'What all keys on Redis begin with, in braces. Each database needs its own when several share a Redis.',
    ),
  ADMIN_SECRET: secret
    .optional()
    .describe('What the header `x-admin-secret` must hold; at least 16 characters.'),
  AUTH_SECRET: secret.optional().describe('Used when `ADMIN_SECRET` is not set.'),
  ADMIN_SECRET_PREVIOUS: secret
    .optional()
    .describe('Opens what `ADMIN_SECRET` opens, while callers change over to a new one.'),
  VIEWER_SECRET: secret
    .optional()
    .describe('A secret that may only read: GET and HEAD of the admin API, and its pages.'),
  OPENAI_API_KEY: z
    .string()
    .min(1)
    .optional()
    .describe("The platform's key, for tenants without one of their own."),
  OPENAI_BASE_URL: url('https?', 'a URL such as https://api.openai.com/v1')
    .default('https://api.openai.com/v1')
    .describe('Where keys are sent unless a credential names another address.'),
  OPENAI_API_KEY_HEADER: HeaderName.default(API_KEY_HEADER_DEFAULT).describe(
    "The header that holds the platform's key: `authorization` as a bearer token, any other (`api-key` for Azure) the bare key.",
  ),
  OPENAI_HEADERS: z
    .preprocess(jsonOf, HeaderFields)
    .optional()
    .describe(
      'Up to ten further headers of requests with the platform\'s key, as JSON: `{"x-gateway": "..."}`. They never go out with a key of a tenant.',
    ),
  OPENAI_REQUESTS_PER_MINUTE: statedLimit(REQUESTS_PER_MINUTE_MAX)
    .optional()
    .describe(
      "Limit of the platform's key: a number, or `unlimited` to guess nothing before the provider speaks.",
    ),
  OPENAI_TOKENS_PER_MINUTE: statedLimit(TOKENS_PER_MINUTE_MAX)
    .optional()
    .describe(
      "Limit of the platform's key: a number, or `unlimited` to guess nothing before the provider speaks.",
    ),
  TENANT_KEY_POLICY: z
    .enum(['fallback', 'required'])
    .default('fallback')
    .describe(
      "`fallback`: a tenant without a key of its own uses the platform's. `required`: such a tenant is not embedded.",
    ),
  CREDENTIALS_KEY: sealingKey
    .optional()
    .describe("Seals the tenants' keys: 32 bytes in base64. Without it no key can be stored or read."),
  CREDENTIALS_KEY_PREVIOUS: sealingKey
    .optional()
    .describe(
      'The `CREDENTIALS_KEY` before: opens what it sealed, until `POST /api/v1/admin/credentials/rekey` has sealed it anew.',
    ),
  ALLOWED_BASE_URLS: z
    .string()
    .default('')
    .describe(
      'Base URLs, separated by commas, that a credential may name although they are not https, or lead to a network of your own.',
    ),
  TARGETS_FILE: z.string().min(1).default(TARGETS_FILE_DEFAULT).describe('The tables to keep complete.'),
  HOST: z.string().min(1).default('0.0.0.0').describe('Address to listen on.'),
  PORT: port.default(3000).describe('Port of the admin API.'),
  WORKER_PORT: port.default(3001).describe('Port of a worker: health and metrics.'),
  WORKER_CONCURRENCY: wholeNumber(1, 256)
    .default(16)
    .describe(
      'Batches a worker runs at once. Those that have waited 5 s for an answer do not count, up to as many again.',
    ),
  TENANT_WINDOW: wholeNumber(1, 256)
    .default(4)
    .describe('Batches of one tenant on Redis to start with; grows while slots are free.'),
  RETRY_BACKOFF_MS: wholeNumber(10, 60_000)
    .default(1_000)
    .describe(
      'The first pause, at most, before a failed batch is tried again; doubles with each attempt, up to 30 times this. A post to the webhook waits 5 times as long.',
    ),
  POLL_EVERY_MS: wholeNumber(50, 60_000)
    .default(3_000)
    .describe(
      'How often work that is on hold checks whether it may go on, and the webhook checks for due events.',
    ),
  SWEEP_EVERY_MS: wholeNumber(100, 600_000)
    .default(15_000)
    .describe('How often the workers look for runs that have lost their jobs, to plan them again.'),
  RETENTION_DAYS: wholeNumber(1, 3_650)
    .default(90)
    .describe(
      'Days that settled runs and the audit are kept. Row ids of batches go after a week, or sooner; the ledger of what was spent stays.',
    ),
  LOG_LEVEL: z
    .enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'])
    .default('info')
    .describe('Log level.'),
  SHUTDOWN_GRACE_MS: wholeNumber(0, 600_000)
    .default(25_000)
    .describe('How long a process may take to put its work down after SIGTERM.'),
  PACING_START_FRACTION: positiveDecimal(100)
    .default(0.5)
    .describe("Share of OpenAI's tier 1 that an account may use before its answers have told its limits."),
  BREAKER_OPEN_MS: wholeNumber(100, 600_000)
    .default(30_000)
    .describe(
      'How long an account rests after its provider failed several times in a row; doubles while it stays down.',
    ),
  BREAKER_OPEN_MAX_MS: wholeNumber(100, 3_600_000).default(300_000).describe('The longest such rest.'),
  REPLICATION_LAG_MAX_MS: wholeNumber(100, 86_400_000)
    .default(10_000)
    .describe('A run admits nothing while a replica is further behind than this.'),
  VECTOR_CACHE_SIZE: wholeNumber(0, 1_000_000)
    .default(5_000)
    .describe(
      'Vectors kept in Redis for an hour when they could not be written, or belong to a dry run, so that a run pays once for an equal text of a tenant. 0: none, and an equal text is paid for again. 1,536 dimensions are 6 KiB.',
    ),
  WEBHOOK_URL: url('https?', 'a URL such as https://example.org/infill')
    .optional()
    .describe('Where the end of every run is posted to, signed, at least once.'),
  WEBHOOK_SECRET: secret
    .optional()
    .describe(
      'Signs what is posted: HMAC-SHA256 in the header `x-infill-signature`. Needed with `WEBHOOK_URL`.',
    ),
  ENVIRONMENT_NAME: z
    .string()
    .min(1)
    .max(40)
    .default('production')
    .describe('Shown as a badge on Bull Board, so that nobody mistakes one system for another.'),
};

/** Every variable that Infill reads; `docs/configuration.md` is generated from it. */
export const Environment = z.object(VARIABLES);
