import { type DestinationStream, type Logger, pino, stdTimeFunctions } from 'pino';

/** One event a line: the message is a stable snake_case name, every value is a field. */
export type Log = Logger;

export type LogOptions = {
  readonly level: string;
  /** Which process speaks, for example `api`. */
  readonly name: string;
  /** Values that must not appear in any line, wherever they come from. Those under 8 characters are not searched for. */
  readonly secrets?: readonly string[];
  /** Standard output when absent. */
  readonly destination?: DestinationStream;
};

const REDACTED = '[redacted]';
const SECRET_LENGTH_MIN = 8;
const MESSAGE_LENGTH_MAX = 500;
const CAUSES_MAX = 5;

const SECRET_FIELDS = [
  'apiKey',
  'adminSecret',
  'secret',
  'password',
  'authorization',
  'cookie',
  '["set-cookie"]',
  '["x-admin-secret"]',
];

/**
 * Makes the log of a process.
 *
 * Three nets, each for what the one before cannot see: fields that are secret by their name, errors that carry the
 * parameters of a query (`describeError`), and in the finished line whatever looks like a key or a password.
 */
export function createLog({ level, name, secrets = [], destination }: LogOptions): Log {
  const options = {
    level,
    name,
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { err: describeError, error: describeError },
    redact: { paths: SECRET_FIELDS.flatMap(pathsOf), censor: REDACTED },
    hooks: { streamWrite: (line: string) => scrub(line, secrets) },
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}

/** The field at the top of a line and up to two objects deep, where headers of a request or an answer are. */
function pathsOf(field: string): string[] {
  const step = field.startsWith('[') ? field : `.${field}`;
  return [field, `*${step}`, `*.*${step}`];
}

/**
 * Replaces what looks like a key or a password: `sk-...`, bearer tokens, the user and password of a URL, the key that a
 * provider quotes in a refusal, and the given values.
 *
 * Works on plain text and on JSON, which stays JSON. Doing it twice changes nothing.
 */
export function scrub(text: string, secrets: readonly string[] = []): string {
  let scrubbed = text
    .replace(/\bsk-[\w*-]{6,}/g, REDACTED)
    .replace(/\b(Bearer\s+)[^\s"\\,]+/gi, `$1${REDACTED}`)
    .replace(/(API key provided:\s*)[^\s"\\,]+/gi, `$1${REDACTED}`)
    .replace(/(:\/\/)[^\s/"\\]*@/g, `$1${REDACTED}@`);
  for (const secret of secrets) {
    if (secret.length < SECRET_LENGTH_MIN) continue;
    scrubbed = scrubbed
      .replaceAll(secret, REDACTED)
      .replaceAll(JSON.stringify(secret).slice(1, -1), REDACTED);
  }
  return scrubbed;
}

export type ErrorDescription = {
  readonly type: string;
  readonly message: string;
  readonly code?: string | number;
  readonly status?: number;
  readonly stack?: string;
  readonly cause?: ErrorDescription;
  readonly errors?: readonly ErrorDescription[];
};

/**
 * Says what a log may know about an error.
 *
 * Takes a few fields by name and leaves the rest: a query error carries its parameters (texts and vectors), an error of
 * Postgres the failing row in `detail`, an error of the OpenAI SDK the headers. Of a failed query the statement is kept
 * without its parameters. Causes are followed five deep.
 */
export function describeError(error: unknown): ErrorDescription {
  return describe(error, CAUSES_MAX);
}

function describe(error: unknown, causesLeft: number): ErrorDescription {
  if (!(error instanceof Error)) return { type: typeof error, message: shorten(String(error)) };

  const { code, status, cause, errors } = error as Error & Record<string, unknown>;
  const goOn = causesLeft > 0;
  return {
    type: error.name === 'Error' ? error.constructor.name : error.name,
    message: messageOf(error),
    ...((typeof code === 'string' || typeof code === 'number') && { code }),
    ...(typeof status === 'number' && { status }),
    ...(error.stack !== undefined && { stack: framesOf(error.stack) }),
    ...(goOn && cause !== undefined && { cause: describe(cause, causesLeft - 1) }),
    ...(goOn &&
      Array.isArray(errors) && { errors: errors.slice(0, 3).map((one) => describe(one, causesLeft - 1)) }),
  };
}

function messageOf(error: Error): string {
  // Drizzle's message is the statement and then every parameter: 5.7 MB for 256 vectors.
  if ('query' in error && 'params' in error) return shorten(`Failed query: ${String(error.query)}`);
  return shorten(error.message);
}

/** Without the first lines of a stack, which repeat the message. */
function framesOf(stack: string): string {
  return stack
    .split('\n')
    .filter((line) => /^\s+at /.test(line))
    .join('\n');
}

function shorten(text: string): string {
  return text.length <= MESSAGE_LENGTH_MAX ? text : `${text.slice(0, MESSAGE_LENGTH_MAX)}...`;
}
