import { existsSync, readFileSync } from 'node:fs';
import type { z } from 'zod';
import { normalBaseUrl } from './core/base-url.ts';
import { keyPrefixOf, parseRedisAddress, RedisAddressError } from './core/redis-address.ts';
import { API_KEY_HEADER_DEFAULT } from './core/request-headers.ts';
import { type Target, TargetsFile, toTargets } from './core/target.ts';
import { Environment, TARGETS_FILE_DEFAULT } from './environment.ts';

/** Values of headers that are shorter are words, which the log may hold by themselves. */
const SECRET_LENGTH_MIN = 8;

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
  mistakes.push(...redisMistakes(given));
  const admins = [given['ADMIN_SECRET'] ?? given['AUTH_SECRET'], given['ADMIN_SECRET_PREVIOUS']];
  if (given['VIEWER_SECRET'] !== undefined && admins.includes(given['VIEWER_SECRET'])) {
    mistakes.push(
      'VIEWER_SECRET: expected another secret than the admin secret, which may do more than read',
    );
  }
  if (!parsed.success || mistakes.length > 0) throw new ConfigError(mistakes);
  return configOf(parsed.data, second);
}

/** What only shows when the variables of Redis are seen together. */
function redisMistakes(given: Record<string, string | undefined>): string[] {
  const { REDIS_URL: url, REDIS_MODE: mode, REDIS_SENTINEL_NAME: name } = given;
  const mistakes: string[] = [];
  if (mode === 'sentinel' && name === undefined) {
    mistakes.push('REDIS_SENTINEL_NAME is missing: expected the name that the sentinels give the primary');
  }
  if (mode !== 'sentinel' && name !== undefined) {
    mistakes.push('REDIS_SENTINEL_NAME is set, but REDIS_MODE is not sentinel: set both, or neither');
  }
  const parsedMode = Environment.shape.REDIS_MODE.safeParse(mode);
  if (url === undefined || !parsedMode.success) return mistakes;
  try {
    parseRedisAddress(url, parsedMode.data);
  } catch (error) {
    if (!(error instanceof RedisAddressError)) throw error;
    mistakes.push(`REDIS_URL: ${error.message}`);
  }
  return mistakes;
}

/**
 * Reads what a migration needs, so that a pipeline may migrate with nothing else at hand.
 *
 * @throws {ConfigError}
 */
export function parseDatabaseUrl(env: NodeJS.ProcessEnv): string {
  const given = givenIn(env);
  const { DATABASE_DIRECT_URL: direct } = given;
  const needed =
    direct === undefined ? ({ DATABASE_URL: true } as const) : ({ DATABASE_DIRECT_URL: true } as const);
  const parsed = Environment.pick(needed).safeParse(given, { reportInput: true });
  if (!parsed.success) throw new ConfigError(parsed.error.issues.map(mistakeOf));
  return Object.values(parsed.data)[0] ?? '';
}

function givenIn(env: NodeJS.ProcessEnv): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined && value !== ''));
}

function mistakeOf(issue: z.core.$ZodIssue): string {
  const name = String(issue.path[0]);
  const missing = issue.code === 'invalid_type' && issue.input === undefined;
  const help = Environment.shape[name as keyof typeof Environment.shape];
  return missing ? `${name} is missing: ${help.description}` : `${name}: ${issue.message}`;
}

function keyBytes(base64: string | undefined): Buffer | null {
  return base64 === undefined ? null : Buffer.from(base64, 'base64');
}

function configOf(e: z.output<typeof Environment>, secondSecret: string | undefined) {
  return Object.freeze({
    environmentName: e.ENVIRONMENT_NAME,
    database: { url: e.DATABASE_URL, pooler: e.DATABASE_POOLER },
    redis: {
      url: e.REDIS_URL,
      mode: e.REDIS_MODE,
      sentinelName: e.REDIS_SENTINEL_NAME,
      keyPrefix: keyPrefixOf(e.REDIS_PREFIX),
    },
    adminSecret: e.ADMIN_SECRET ?? e.AUTH_SECRET ?? '',
    adminSecretPrevious: e.ADMIN_SECRET_PREVIOUS ?? null,
    viewerSecret: e.VIEWER_SECRET ?? null,
    keys: {
      platformKey: e.OPENAI_API_KEY ?? null,
      defaultBaseUrl: normalBaseUrl(e.OPENAI_BASE_URL),
      platformLimits: {
        requestsPerMinute: e.OPENAI_REQUESTS_PER_MINUTE ?? null,
        tokensPerMinute: e.OPENAI_TOKENS_PER_MINUTE ?? null,
      },
      platformApiKeyHeader:
        e.OPENAI_API_KEY_HEADER === API_KEY_HEADER_DEFAULT ? undefined : e.OPENAI_API_KEY_HEADER,
      platformHeaders: e.OPENAI_HEADERS,
      policy: e.TENANT_KEY_POLICY,
      sealingKey: keyBytes(e.CREDENTIALS_KEY),
      sealingKeyPrevious: keyBytes(e.CREDENTIALS_KEY_PREVIOUS),
      allowedBaseUrls: e.ALLOWED_BASE_URLS.split(',')
        .map((base) => normalBaseUrl(base.trim()))
        .filter((base) => base !== ''),
    },
    targetsFile: e.TARGETS_FILE,
    http: { host: e.HOST, port: e.PORT, workerPort: e.WORKER_PORT },
    worker: {
      concurrency: e.WORKER_CONCURRENCY,
      tenantWindow: e.TENANT_WINDOW,
      retryBackoffMs: e.RETRY_BACKOFF_MS,
      pollEveryMs: e.POLL_EVERY_MS,
      sweepEveryMs: e.SWEEP_EVERY_MS,
    },
    log: { level: e.LOG_LEVEL },
    retentionDays: e.RETENTION_DAYS,
    vectorCacheSize: e.VECTOR_CACHE_SIZE,
    webhook: e.WEBHOOK_URL === undefined ? null : { url: e.WEBHOOK_URL, secret: e.WEBHOOK_SECRET ?? '' },
    shutdownGraceMs: e.SHUTDOWN_GRACE_MS,
    replicationLagMaxMs: e.REPLICATION_LAG_MAX_MS,
    pacing: { startFraction: e.PACING_START_FRACTION },
    breaker: { openMs: e.BREAKER_OPEN_MS, openMsMax: Math.max(e.BREAKER_OPEN_MS, e.BREAKER_OPEN_MAX_MS) },
    /** For the log, which takes them out of whatever an error may say. */
    secrets: [
      e.ADMIN_SECRET,
      secondSecret,
      e.ADMIN_SECRET_PREVIOUS,
      e.VIEWER_SECRET,
      e.OPENAI_API_KEY,
      ...Object.values(e.OPENAI_HEADERS ?? {}).filter((value) => value.length >= SECRET_LENGTH_MIN),
      e.CREDENTIALS_KEY,
      e.CREDENTIALS_KEY_PREVIOUS,
      e.WEBHOOK_SECRET,
    ].filter((secret) => secret !== undefined),
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
