import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ConfigError, parseConfig, readTargets } from '../../src/config.ts';

const GOOD = {
  DATABASE_URL: 'postgres://user:secret@localhost:5432/app',
  REDIS_URL: 'redis://localhost:6379',
  ADMIN_SECRET: 'long enough to be one',
};

function mistakesOf(env: NodeJS.ProcessEnv): string[] {
  try {
    parseConfig(env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.message
      .split('\n')
      .slice(1)
      .map((line) => line.replace('  - ', ''));
  }
  return [];
}

describe('a configuration', () => {
  test('needs an address of Postgres, one of Redis and a secret; all else has a default', () => {
    expect(parseConfig(GOOD)).toMatchObject({
      http: { host: '0.0.0.0', port: 3000, workerPort: 3001 },
      worker: { concurrency: 16, tenantWindow: 4 },
      keys: {
        platformKey: null,
        defaultBaseUrl: 'https://api.openai.com/v1',
        policy: 'fallback',
        sealingKey: null,
        allowedBaseUrls: [],
      },
      targetsFile: 'targets.json',
      log: { level: 'info' },
    });
  });

  test("reads the limits of the platform's key as numbers or as unlimited, and as nothing else", () => {
    const limits = { OPENAI_REQUESTS_PER_MINUTE: '600', OPENAI_TOKENS_PER_MINUTE: 'unlimited' };

    expect(parseConfig({ ...GOOD, ...limits }).keys.platformLimits).toEqual({
      requestsPerMinute: 600,
      tokensPerMinute: 'unlimited',
    });
    expect(
      mistakesOf({ ...GOOD, OPENAI_REQUESTS_PER_MINUTE: 'many', OPENAI_TOKENS_PER_MINUTE: '0' }),
    ).toEqual([
      'OPENAI_REQUESTS_PER_MINUTE: expected a whole number from 1 to 10000000, or unlimited',
      'OPENAI_TOKENS_PER_MINUTE: expected a whole number from 1 to 1000000000, or unlimited',
    ]);
  });

  test('names everything that is missing at once, and what it is for', () => {
    const mistakes = mistakesOf({});

    expect(mistakes).toHaveLength(3);
    expect(mistakes[0]).toMatch(/^DATABASE_URL is missing: PostgreSQL/);
    expect(mistakes[1]).toMatch(/^REDIS_URL is missing: Redis/);
    expect(mistakes[2]).toBe('ADMIN_SECRET (or AUTH_SECRET) is missing: expected at least 16 characters');
  });

  test('names every mistake at once, and what was expected, but never a value', () => {
    const wrong = {
      DATABASE_URL: 'mysql://planted',
      REDIS_URL: 'planted',
      ADMIN_SECRET: 'planted',
      OPENAI_BASE_URL: 'ftp://planted',
      TENANT_KEY_POLICY: 'planted',
      CREDENTIALS_KEY: 'cGxhbnRlZA==',
      PORT: 'planted',
      WORKER_PORT: '70000',
      WORKER_CONCURRENCY: '0',
      TENANT_WINDOW: '1.5',
      LOG_LEVEL: 'planted',
      SHUTDOWN_GRACE_MS: '-1',
      OPENAI_CUSTOM_HEADERS: 'authorization: planted',
    };

    const mistakes = mistakesOf(wrong);

    expect(mistakes.map((mistake) => /^\w+/.exec(mistake)?.[0]).sort()).toEqual(Object.keys(wrong).sort());
    expect(mistakes.join('\n')).not.toContain('planted');
    expect(mistakes).toContain(
      'CREDENTIALS_KEY: expected 32 bytes in base64, as `openssl rand -base64 32` prints them',
    );
    expect(mistakes).toContain(
      'DATABASE_URL: expected a URL such as postgres://user:password@host:5432/database',
    );
  });

  test.each([
    [
      'an empty admin secret is none',
      { ADMIN_SECRET: '' },
      'ADMIN_SECRET (or AUTH_SECRET) is missing: expected at least 16 characters',
    ],
    [
      'a short admin secret is none',
      { ADMIN_SECRET: 'x'.repeat(15) },
      'ADMIN_SECRET: expected at least 16 characters',
    ],
    [
      'a short second secret is none, where there is no first',
      { ADMIN_SECRET: '', AUTH_SECRET: 'short' },
      'AUTH_SECRET: expected at least 16 characters',
    ],
    [
      'a secret of blanks is none',
      { ADMIN_SECRET: ' '.repeat(20), AUTH_SECRET: 'the second secret' },
      'ADMIN_SECRET: expected at least 16 characters, and not only blanks',
    ],
    ['a port of blanks is none', { PORT: ' ' }, 'PORT: expected a whole number from 0 to 65535'],
    ['a port is written in plain digits', { PORT: '0x10' }, 'PORT: expected a whole number'],
    ['a port has no leading zeros', { PORT: '03000' }, 'PORT: expected a whole number'],
    [
      'a number has no exponent',
      { WORKER_CONCURRENCY: '1e1' },
      'WORKER_CONCURRENCY: expected a whole number',
    ],
    [
      'a share is written in plain digits',
      { PACING_START_FRACTION: ' 1' },
      'PACING_START_FRACTION: expected a number above 0, at most 100',
    ],
    ['an empty address is none', { REDIS_URL: '' }, 'REDIS_URL is missing'],
  ])('%s', (_name, changed, mistake) => {
    expect(mistakesOf({ ...GOOD, ...changed })).toEqual([expect.stringContaining(mistake)]);
  });

  test.each([
    ['DATABASE_URL', 'postgres://u:planted/w@db:5432/app'],
    ['DATABASE_URL', 'postgres://u:p@db:planted/app'],
    ['DATABASE_URL', 'postgres://u:%planted@db/app'],
    ['DATABASE_URL', 'postgres://u:p@db:70000/app'],
    ['REDIS_URL', 'redis://redis:planted'],
    ['REDIS_URL', 'redis://:%planted@redis:6379'],
    ['REDIS_URL', 'rediss://planted host:6379'],
    ['OPENAI_BASE_URL', 'https://planted:port/v1'],
    ['WEBHOOK_URL', 'https://planted:port/'],
  ])('that cannot be used lists %s among its mistakes: %s', (name, value) => {
    const mistakes = mistakesOf({
      ...GOOD,
      ADMIN_SECRET: 'short',
      WEBHOOK_SECRET: 'long enough to be one',
      [name]: value,
    });

    expect(mistakes).toHaveLength(2);
    expect(mistakes).toContainEqual(expect.stringMatching(`^${name}: expected a URL such as `));
    expect(mistakes.join('\n')).not.toContain('planted');
  });

  test.each([
    ['DATABASE_URL', 'postgres://u:p@one:1,two:2/app'],
    ['DATABASE_URL', 'postgresql:///app?host=/var/run/postgresql'],
    ['DATABASE_URL', 'postgres://%2Fvar%2Frun%2Fpostgresql/app'],
    ['DATABASE_URL', 'postgres://u:p%2Fw%40@[::1]:5432/app?sslmode=require'],
    ['DATABASE_URL', 'postgres://host'],
    ['REDIS_URL', 'redis://:p%23w@[::1]:6379/2?family=6'],
    ['REDIS_URL', 'rediss://user:p@redis'],
  ])('takes every address that its client takes: %s %s', (name, value) => {
    expect(mistakesOf({ ...GOOD, [name]: value })).toEqual([]);
    if (name === 'REDIS_URL') expect(() => new Redis(value, { lazyConnect: true })).not.toThrow();
  });

  test('takes the second secret where there is no first', () => {
    const { ADMIN_SECRET: _first, ...rest } = GOOD;

    expect(parseConfig({ ...rest, AUTH_SECRET: 'the second secret' }).adminSecret).toBe('the second secret');
    expect(parseConfig({ ...rest, ADMIN_SECRET: '', AUTH_SECRET: 'the second secret' }).adminSecret).toBe(
      'the second secret',
    );
    expect(parseConfig({ ...GOOD, AUTH_SECRET: 'the second secret' }).adminSecret).toBe(GOOD.ADMIN_SECRET);
  });

  test('does not look at a second secret where there is a first, but keeps it out of the log', () => {
    const { adminSecret, secrets } = parseConfig({ ...GOOD, AUTH_SECRET: 'short' });

    expect(adminSecret).toBe(GOOD.ADMIN_SECRET);
    expect(secrets).toContain('short');
  });

  test('takes numbers in plain decimal digits', () => {
    const { http, pacing } = parseConfig({ ...GOOD, PORT: '0', PACING_START_FRACTION: '0.25' });

    expect([http.port, pacing.startFraction]).toEqual([0, 0.25]);
  });

  test('tells the log every secret that it holds', () => {
    const sealing = randomBytes(32).toString('base64');

    const more = { ADMIN_SECRET_PREVIOUS: 'the secret before this', VIEWER_SECRET: 'only to look with' };

    expect(
      parseConfig({ ...GOOD, ...more, OPENAI_API_KEY: 'sk-1', CREDENTIALS_KEY: sealing }).secrets,
    ).toEqual([GOOD.ADMIN_SECRET, 'the secret before this', 'only to look with', 'sk-1', sealing]);
  });

  test('takes base URLs with and without a slash at their end', () => {
    const { keys } = parseConfig({
      ...GOOD,
      OPENAI_BASE_URL: 'http://a/v1/',
      ALLOWED_BASE_URLS: 'http://b/v1/, http://c ,',
    });

    expect(keys).toMatchObject({
      defaultBaseUrl: 'http://a/v1',
      allowedBaseUrls: ['http://b/v1', 'http://c'],
    });
  });
});

describe('the file of targets', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'infill-config-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  const entry = {
    table: 'notes',
    id: 'id',
    tenant: 'tenant_id',
    text: ['content'],
    embedding: 'embedding',
    model: 'm',
    dimensions: 3,
  };
  async function read(json: unknown) {
    const file = join(folder, 'targets.json');
    await writeFile(file, typeof json === 'string' ? json : JSON.stringify(json));
    return readTargets(file);
  }

  test('gives targets in its order; a table may carry its schema', async () => {
    const targets = await read({
      targets: { b: entry, a: { ...entry, table: 'crm.notes', tenant: undefined, onTooLong: 'truncate' } },
    });

    expect([...targets.values()]).toEqual([
      { ...entry, name: 'b', schema: 'public', onTooLong: 'quarantine' },
      { ...entry, name: 'a', schema: 'crm', table: 'notes', tenant: null, onTooLong: 'truncate' },
    ]);
  });

  test.each([
    ['is not JSON', '{', ['cannot be read']],
    ['has no targets', {}, ['targets: ']],
    ['names no target', { targets: {} }, ['targets: expected at least one target']],
    ['misspells a field', { targets: { a: { ...entry, modell: 'm' } } }, ['targets.a: ', 'modell']],
    [
      'leaves fields out',
      { targets: { a: { table: 'notes' } } },
      [
        'targets.a.id: ',
        'targets.a.text: ',
        'targets.a.embedding: ',
        'targets.a.model: ',
        'targets.a.dimensions: ',
      ],
    ],
    [
      'has impossible dimensions',
      { targets: { a: { ...entry, dimensions: 0 }, b: { ...entry, dimensions: 16_001 } } },
      ['targets.a.dimensions: ', 'targets.b.dimensions: '],
    ],
    ['names no text column', { targets: { a: { ...entry, text: [] } } }, ['targets.a.text: ']],
  ])('that %s is refused with every mistake in it', async (_name, json, said) => {
    const error = await read(json).catch((thrown: unknown) => thrown);

    expect(error).toBeInstanceOf(ConfigError);
    for (const part of said) expect((error as Error).message).toContain(part);
  });

  test('that is not there is told by its name', () => {
    expect(() => readTargets('/no/such/file.json')).toThrow(
      /TARGETS_FILE \/no\/such\/file\.json cannot be read/,
    );
  });
});
