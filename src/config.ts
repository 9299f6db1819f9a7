import { existsSync, readFileSync } from 'node:fs';
import { z } from 'zod';
import { normalBaseUrl } from './core/base-url.ts';
import { plainDecimal, plainWholeNumber } from './core/plain-number.ts';
import { isPostgresUrl, isRedisUrl } from './core/service-url.ts';
import { type Target, TargetsFile, toTargets } from './core/target.ts';

/** `isReadable` says whether whoever connects can take it apart: what cannot be would be found out later, one at a time. */
function url(protocols: string, expected: string, isReadable = (text: string) => URL.canParse(text)) {
  const pattern = new RegExp(`^(${protocols})://.+`);
  const isUsable = (text: string) => pattern.test(text) && isReadable(text);
  return z.string().refine(isUsable, { error: `expected ${expected}` });
}

function wholeNumber(min: number, max: number) {
  const error = `expected a whole number from ${min} to ${max}`;
  return z.preprocess(plainWholeNumber, z.int({ error }).min(min, { error }).max(max, { error }));
}

function positiveDecimal(max: number) {
  const error = `expected a number above 0, at most ${max}`;
  return z.preprocess(plainDecimal, z.number({ error }).positive({ error }).max(max, { error }));
}

const port = wholeNumber(0, 65_535);

const TARGETS_FILE_DEFAULT = 'targets.json';

const SECRET_LENGTH_MIN = 16;
const secret = z.string().refine((value) => value.length >= SECRET_LENGTH_MIN && value.trim() !== '', {
  error: `expected at least ${SECRET_LENGTH_MIN} characters, and not only blanks`,
});

const flagHelp = {
  DATABASE_URL: url(
    'postgres|postgresql',
    'a URL such as postgres://user:password@host:5432/database',
    isPostgresUrl,
  ).describe('PostgreSQL with pgvector: holds the tables of the targets and the schema `infill`.'),
  REDIS_URL: url('redis|rediss', 'a URL such as redis://host:6379', isRedisUrl).describe(
    'Redis for BullMQ, with `maxmemory-policy noeviction`.',
  ),
  ADMIN_SECRET: secret
    .optional()
    .describe('What the header `x-admin-secret` must hold; at least 16 characters.'),
  AUTH_SECRET: secret.optional().describe('Used when `ADMIN_SECRET` is not set.'),
  OPENAI_API_KEY: z
    .string()
    .min(1)
    .optional()
    .describe("The platform's key, for tenants without one of their own."),
  OPENAI_BASE_URL: url('https?', 'a URL such as https://api.openai.com/v1')
    .default('https://api.openai.com/v1')
    .describe('Where keys are sent unless a credential names another address.'),
  TENANT_KEY_POLICY: z
    .enum(['fallback', 'required'])
    .default('fallback')
    .describe(
      "`fallback`: a tenant without a key of its own uses the platform's. `required`: such a tenant is not embedded.",
    ),
  CREDENTIALS_KEY: z
    .string()
    .refine((value) => Buffer.from(value, 'base64').length === 32, {
      error: 'expected 32 bytes in base64, as `openssl rand -base64 32` prints them',
    })
    .optional()
    .describe("Seals the tenants' keys: 32 bytes in base64. Without it no key can be stored or read."),
  ALLOWED_BASE_URLS: z
    .string()
    .default('')
    .describe('Base URLs, separated by commas, that a credential may name although they are not https.'),
  TARGETS_FILE: z.string().min(1).default(TARGETS_FILE_DEFAULT).describe('The tables to keep complete.'),
  HOST: z.string().min(1).default('0.0.0.0').describe('Address to listen on.'),
  PORT: port.default(3000).describe('Port of the admin API.'),
  WORKER_PORT: port.default(3001).describe('Port of a worker: health and metrics.'),
  WORKER_CONCURRENCY: wholeNumber(1, 256).default(16).describe('Batches a worker runs at once.'),
  TENANT_WINDOW: wholeNumber(1, 256)
    .default(4)
    .describe('Batches of one tenant on Redis to start with; grows while slots are free.'),
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
      'Vectors kept in Redis for an hour, so that a run pays once for an equal text of a tenant. 0: none. 1,536 dimensions are 6 KiB.',
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
export const Environment = z.object(flagHelp);

export type Config = ReturnType<typeof parseConfig>;

/** Says every mistake of a configuration at once, one line each. */
export class ConfigError extends Error {
  readonly mistakes: readonly string[];

  constructor(mistakes: readonly string[]) {
    super(
      `The configuration has ${mistakes.length === 1 ? 'a mistake' : `${mistakes.length} mistakes`}:\n${mistakes.map((m) => `  - ${m}`).join('\n')}`,
    );
    this.name = 'ConfigError';
    this.mistakes = mistakes;
  }
}

/**
 * Adds what the file `.env` of the working directory says, if there is one, to the environment of this process.
 *
 * What is set already wins, but Node counts an empty variable as set: here it counts as unset, and the file's value is taken.
 *
 * @param env the environment of this process.
 */
export function loadEnvFile(env: NodeJS.ProcessEnv): void {
  for (const name of Object.keys(Environment.shape)) {
    if (env[name] === '') delete env[name];
  }
  if (existsSync('.env')) process.loadEnvFile();
}

/**
 * Reads the environment and the file of targets that it names.
 *
 * @throws {ConfigError} that lists the mistakes of both.
 */
export function readConfiguration(env: NodeJS.ProcessEnv): {
  config: Config;
  targets: ReadonlyMap<string, Target>;
} {
  const config = attempt(() => parseConfig(env));
  const targets = attempt(() => readTargets(env['TARGETS_FILE'] || TARGETS_FILE_DEFAULT));
  if (config instanceof ConfigError || targets instanceof ConfigError) {
    throw new ConfigError(
      [config, targets].flatMap((one) => (one instanceof ConfigError ? one.mistakes : [])),
    );
  }
  return { config, targets };
}

function attempt<Result>(read: () => Result): Result | ConfigError {
  try {
    return read();
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
}

/**
 * Reads the whole configuration at once, so that a bad deployment dies at start with every mistake listed.
 *
 * An empty variable counts as unset: that is what `NAME=` in a compose file or `.env` means.
 *
 * @throws {ConfigError} that lists every variable that is missing or malformed, and what was expected. Never shows a value.
 */
export function parseConfig(env: NodeJS.ProcessEnv) {
  const given = givenIn(env);
  // One of the two counts; what the other holds is nobody's mistake.
  const { AUTH_SECRET: second, ...withoutSecond } = given;
  const counting = given['ADMIN_SECRET'] === undefined ? given : withoutSecond;
  const parsed = Environment.safeParse(counting, { reportInput: true });
  const mistakes = parsed.success ? [] : parsed.error.issues.map(mistakeOf);
  if (given['ADMIN_SECRET'] === undefined && given['AUTH_SECRET'] === undefined) {
    mistakes.push('ADMIN_SECRET (or AUTH_SECRET) is missing: expected at least 16 characters');
  }
  if (given['OPENAI_CUSTOM_HEADERS'] !== undefined) {
    mistakes.push("OPENAI_CUSTOM_HEADERS must not be set: its headers would go out with every tenant's key");
  }
  if (given['WEBHOOK_URL'] !== undefined && given['WEBHOOK_SECRET'] === undefined) {
    mistakes.push('WEBHOOK_SECRET is missing: expected at least 16 characters, since WEBHOOK_URL is set');
  }
  if (!parsed.success || mistakes.length > 0) throw new ConfigError(mistakes);
  return configOf(parsed.data, second);
}

/**
 * Reads the one variable that a migration needs, so that a pipeline may migrate with nothing else at hand.
 *
 * @throws {ConfigError}
 */
export function parseDatabaseUrl(env: NodeJS.ProcessEnv): string {
  const parsed = Environment.pick({ DATABASE_URL: true }).safeParse(givenIn(env), { reportInput: true });
  if (!parsed.success) throw new ConfigError(parsed.error.issues.map(mistakeOf));
  return parsed.data.DATABASE_URL;
}

function givenIn(env: NodeJS.ProcessEnv): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined && value !== ''));
}

function mistakeOf(issue: z.core.$ZodIssue): string {
  const name = String(issue.path[0]);
  const missing = issue.code === 'invalid_type' && issue.input === undefined;
  const help = Environment.shape[name as keyof typeof flagHelp];
  return missing ? `${name} is missing: ${help.description}` : `${name}: ${issue.message}`;
}

function configOf(e: z.output<typeof Environment>, secondSecret: string | undefined) {
  return Object.freeze({
    environmentName: e.ENVIRONMENT_NAME,
    database: { url: e.DATABASE_URL },
    redis: { url: e.REDIS_URL },
    adminSecret: e.ADMIN_SECRET ?? e.AUTH_SECRET ?? '',
    keys: {
      platformKey: e.OPENAI_API_KEY ?? null,
      defaultBaseUrl: normalBaseUrl(e.OPENAI_BASE_URL),
      policy: e.TENANT_KEY_POLICY,
      sealingKey: e.CREDENTIALS_KEY === undefined ? null : Buffer.from(e.CREDENTIALS_KEY, 'base64'),
      allowedBaseUrls: e.ALLOWED_BASE_URLS.split(',')
        .map((base) => normalBaseUrl(base.trim()))
        .filter((base) => base !== ''),
    },
    targetsFile: e.TARGETS_FILE,
    http: { host: e.HOST, port: e.PORT, workerPort: e.WORKER_PORT },
    worker: { concurrency: e.WORKER_CONCURRENCY, tenantWindow: e.TENANT_WINDOW },
    log: { level: e.LOG_LEVEL },
    vectorCacheSize: e.VECTOR_CACHE_SIZE,
    webhook: e.WEBHOOK_URL === undefined ? null : { url: e.WEBHOOK_URL, secret: e.WEBHOOK_SECRET ?? '' },
    shutdownGraceMs: e.SHUTDOWN_GRACE_MS,
    replicationLagMaxMs: e.REPLICATION_LAG_MAX_MS,
    pacing: { startFraction: e.PACING_START_FRACTION },
    breaker: { openMs: e.BREAKER_OPEN_MS, openMsMax: Math.max(e.BREAKER_OPEN_MS, e.BREAKER_OPEN_MAX_MS) },
    /** For the log, which takes them out of whatever an error may say. */
    secrets: [e.ADMIN_SECRET, secondSecret, e.OPENAI_API_KEY, e.CREDENTIALS_KEY, e.WEBHOOK_SECRET].filter(
      (secret) => secret !== undefined,
    ),
  });
}

/**
 * Reads `targets.json`.
 *
 * @throws {ConfigError} that names the file, each wrong field, and what was expected.
 */
export function readTargets(path: string): ReadonlyMap<string, Target> {
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new ConfigError([`TARGETS_FILE ${path} cannot be read: ${(error as Error).message}`]);
  }
  const parsed = TargetsFile.safeParse(json);
  if (!parsed.success) {
    throw new ConfigError(
      parsed.error.issues.map((issue) => `${path}: ${issue.path.join('.') || '(top)'}: ${issue.message}`),
    );
  }
  return toTargets(parsed.data);
}
