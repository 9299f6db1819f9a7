import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, matchesGlob } from 'node:path';
import { DCLinter } from 'dclint';
import { validate } from 'dockerfile-utils';
import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../src/config.ts';
import { Environment } from '../../src/environment.ts';
import { type ComposeService, composeVariables, interpolate, readCompose } from '../support/compose.ts';
import { execForm, lastOf, REPOSITORY, readImage, readStages } from '../support/dockerfile.ts';
import { readEnvExample } from '../support/env-example.ts';

/** Variables of Compose alone: no process of ours reads them. */
const COMPOSE_ONLY = [
  'POSTGRES_PASSWORD',
  'WORK_PASSWORD',
  'REDIS_PASSWORD',
  'PUBLISH_ADDRESS',
  'POSTGRES_PORT',
  'REDIS_PORT',
  'WORKER_REPLICAS',
];

const FILLED_IN = {
  ADMIN_SECRET: 'ab'.repeat(16),
  CREDENTIALS_KEY: Buffer.alloc(32, '0123456789').toString('base64'),
  OPENAI_API_KEY: '',
  POSTGRES_PASSWORD: 'secret',
  REDIS_PASSWORD: 'queue',
  WORK_PASSWORD: 'work',
};

describe('docker-compose.yml', () => {
  const { services, volumes } = readCompose();
  const service = (name: string): ComposeService => services[name] ?? {};

  test('keeps to the Compose specification and to the rules of dclint', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'infill-compose-'));
    await writeFile(join(folder, 'docker-compose.yml'), interpolate(FILLED_IN));
    // Rules on the order of keys are left out: a service here is read from what it is to what it needs.
    const rules = {
      'service-keys-order': 0,
      'top-level-properties-order': 0,
      'service-dependencies-alphabetical-order': 0,
      'require-quotes-in-ports': 0,
    } as const;

    // Its types are lost to Node's module resolution: they import each other without extensions.
    const results: { messages: unknown[] }[] = new DCLinter({
      rules,
      quiet: false,
      debug: false,
      exclude: [],
    }).lintFiles([folder], false);

    await rm(folder, { recursive: true });
    expect(results).toHaveLength(1);
    expect(results.flatMap(({ messages }) => messages)).toEqual([]);
  });

  test('starts PostgreSQL, Redis, the migration, the API and the worker, and nothing else', () => {
    expect(Object.keys(services).toSorted()).toEqual(['api', 'migrate', 'postgres', 'redis', 'worker']);
    expect(service('postgres').image).toBe('pgvector/pgvector:pg17');
    expect(service('redis').image).toBe('redis:8');
    expect(service('api').build?.dockerfile).toBe('Dockerfile.api');
    expect(service('worker').build?.dockerfile).toBe('Dockerfile.worker');
    expect(service('migrate').command).toEqual(['node', 'src/migrate.ts']);
  });

  test('refuses to start without passwords for PostgreSQL and Redis', () => {
    expect(() => interpolate({})).toThrow(/WORK_PASSWORD: copy .env.example/);
    expect(() => interpolate({ WORK_PASSWORD: 'work', REDIS_PASSWORD: 'queue' })).toThrow(
      /POSTGRES_PASSWORD: copy .env.example/,
    );
  });

  test('Redis keeps its queues over a crash and evicts no key', () => {
    const command = service('redis').command?.join(' ');

    expect(command).toContain('--appendonly yes --appendfsync everysec');
    expect(command).toContain('--maxmemory-policy noeviction');
  });

  test('what must outlive a container is in a volume', () => {
    expect(service('postgres').volumes).toContain('postgres-data:/var/lib/postgresql/data');
    expect(service('redis').volumes).toEqual(['redis-data:/data']);
    expect(Object.keys(volumes)).toEqual(['postgres-data', 'redis-data']);
  });

  test('no port is open to other machines unless .env says so', () => {
    const ports = Object.values(services).flatMap((each) => each.ports ?? []);

    expect(ports).toEqual(['127.0.0.1:3000:3000', '127.0.0.1:5432:5432', '127.0.0.1:6379:6379']);
    expect(readCompose({ ...FILLED_IN, PUBLISH_ADDRESS: '0.0.0.0', PORT: '80' }).services.api?.ports).toEqual(
      ['0.0.0.0:80:3000'],
    );
  });

  test('the API and the worker wait for the migration to have ended well and for healthy services', () => {
    for (const name of ['api', 'worker']) {
      expect(service(name).depends_on, name).toEqual({
        migrate: { condition: 'service_completed_successfully' },
        postgres: { condition: 'service_healthy' },
        redis: { condition: 'service_healthy' },
      });
    }
    expect(service('migrate').depends_on).toEqual({ postgres: { condition: 'service_healthy' } });
  });

  test('the migration runs once, and all else comes back after a crash', () => {
    expect(service('migrate').restart).toBe('no');
    for (const name of ['api', 'worker', 'postgres', 'redis']) {
      expect(service(name).restart, name).toBe('unless-stopped');
    }
  });

  test('a worker can be started any number of times', () => {
    expect(service('worker').container_name).toBeUndefined();
    expect(service('worker').ports).toBeUndefined();
    expect(Number(service('worker').deploy?.replicas)).toBe(1);
    expect(readCompose({ ...FILLED_IN, WORKER_REPLICAS: '3' }).services.worker?.deploy?.replicas).toBe(3);
  });

  test('every service that stays has a health check', () => {
    expect(service('api').healthcheck?.test?.join(' ')).toMatch(
      /^CMD wget .* http:\/\/127\.0\.0\.1:3000\/readyz$/,
    );
    expect(service('worker').healthcheck?.test?.join(' ')).toMatch(
      /^CMD wget .* http:\/\/127\.0\.0\.1:3001\/readyz$/,
    );
    expect(service('postgres').healthcheck?.test?.join(' ')).toContain('pg_isready --host=127.0.0.1');
    expect(service('redis').healthcheck?.test?.join(' ')).toContain('redis-cli ping');
    expect(service('migrate').healthcheck).toEqual({ disable: true });
  });

  test('a process has longer to stop than it takes by default', () => {
    const graceMs = Environment.shape.SHUTDOWN_GRACE_MS.parse(undefined);

    for (const name of ['api', 'worker']) {
      const stopSeconds = Number.parseInt(service(name).stop_grace_period ?? '', 10);
      expect(stopSeconds * 1000, name).toBeGreaterThan(graceMs);
    }
  });

  test('a copy of .env.example, filled in, is a valid configuration of every process', () => {
    const fromFile = { ...readEnvExample().shown, ...FILLED_IN };

    for (const name of ['api', 'worker']) {
      expect(service(name).env_file, name).toEqual(['.env']);
      const config = parseConfig({ ...fromFile, ...service(name).environment });

      expect(config.database.url).toBe('postgres://infill_work:work@postgres:5432/infill');
      expect(config.redis.url).toBe('redis://:queue@redis:6379');
      expect(config.http).toEqual({ host: '0.0.0.0', port: 3000, workerPort: 3001 });
    }
  });

  test('the API and the worker connect as a role of few rights, and do not learn the password of the other', () => {
    for (const name of ['api', 'worker']) {
      expect(service(name).environment?.POSTGRES_PASSWORD, name).toBe('');
      expect(JSON.stringify(service(name).environment), name).not.toContain('secret');
    }
    expect(service('postgres').volumes).toContain(
      './compose/postgres-roles.sh:/docker-entrypoint-initdb.d/postgres-roles.sh:ro',
    );
    const script = readFileSync(join(REPOSITORY, 'compose/postgres-roles.sh'), 'utf8');
    expect(script).toContain('CREATE ROLE infill_work LOGIN');
    expect(script).not.toMatch(/SUPERUSER|GRANT ALL|CREATEROLE/);
  });

  test('the migration gets the address of the database and nothing else', () => {
    expect(service('migrate').env_file).toBeUndefined();
    expect(service('migrate').environment).toEqual({
      DATABASE_URL: 'postgres://infill:secret@postgres:5432/infill',
    });
  });

  test('Redis asks for a password', () => {
    expect(service('redis').command?.join(' ')).toContain('--requirepass queue');
    expect(service('redis').environment).toEqual({ REDISCLI_AUTH: 'queue' });
  });

  test('no service may take all memory of the machine', () => {
    for (const [name, { mem_limit }] of Object.entries(services))
      expect(mem_limit, name).toMatch(/^\d+[mg]$/);
  });
});

describe('.env.example', () => {
  const { shown, toFillIn } = readEnvExample();

  test('names every variable of the configuration and of docker-compose.yml, and no other', () => {
    const known = new Set([...Object.keys(Environment.shape), ...COMPOSE_ONLY]);

    expect([...Object.keys(shown), ...toFillIn].toSorted()).toEqual([...known].toSorted());
    expect([...known]).toEqual(expect.arrayContaining([...composeVariables()]));
  });

  test('what has a default shows that default', () => {
    for (const [name, schema] of Object.entries(Environment.shape)) {
      const { success, data } = schema.safeParse(undefined);
      if (success && data !== undefined) expect(shown[name], name).toBe(String(data));
    }
  });

  test('holds no value for a secret', () => {
    expect(toFillIn).toEqual(Object.keys(FILLED_IN));
    expect(shown.AUTH_SECRET).toBe('');
  });
});

describe.each(['api', 'worker'] as const)('Dockerfile.%s', (name) => {
  const file = `Dockerfile.${name}`;
  const stages = readStages(file);
  const image = readImage(file);
  const ownSources = stages
    .flatMap(({ instructions }) => instructions)
    .filter(({ keyword, flags }) => keyword === 'COPY' && flags.from === undefined)
    .flatMap(({ args }) => args.slice(0, -1));

  test('is valid', () => {
    expect(validate(readFileSync(join(REPOSITORY, file), 'utf8'))).toEqual([]);
  });

  test('builds on Node 24 for Alpine in every stage', () => {
    expect(new Set(stages.map((stage) => stage.image))).toEqual(new Set(['node:24-alpine']));
  });

  test('copies only what is in the repository and not kept out of the build', () => {
    expect(ownSources.filter((source) => !existsSync(join(REPOSITORY, source)))).toEqual([]);
    expect(ownSources.filter((source) => isKeptOut(source))).toEqual([]);
  });

  test('installs dependencies without those of development, before the code is copied', () => {
    const [dependencies] = stages;
    const keywords = dependencies?.instructions.map(({ keyword }) => keyword);

    expect(keywords).toEqual(['WORKDIR', 'COPY', 'RUN']);
    expect(dependencies?.instructions.at(-1)?.text).toContain('npm ci --omit=dev');
    expect(dependencies?.instructions[1]?.args).not.toContain('src');
  });

  test('runs in production mode, as a user that is not root', () => {
    expect(lastOf(image, 'ENV').args).toContain('NODE_ENV=production');
    expect(lastOf(image, 'USER').args).toEqual(['node']);
  });

  test('bounds the young part of its heap, as npm start does', () => {
    const { scripts } = JSON.parse(readFileSync(join(REPOSITORY, 'package.json'), 'utf8'));
    const option = '--max-semi-space-size=16';

    expect(lastOf(image, 'ENV').args).toContain(`NODE_OPTIONS=${option}`);
    expect(scripts[`start:${name}`]).toContain(`node ${option} src/${name}.ts`);
  });

  test('its process gets the signals itself', () => {
    expect(execForm(lastOf(image, 'CMD'))).toEqual(['node', `src/${name}.ts`]);
    expect(existsSync(join(REPOSITORY, `src/${name}.ts`))).toBe(true);
    expect(lastOf(image, 'STOPSIGNAL').args).toEqual(['SIGTERM']);
  });

  test('asks itself with wget, at an address that exists inside a container, on the port in use', () => {
    const variable = name === 'api' ? 'PORT' : 'WORKER_PORT';
    const port = Environment.shape[variable].parse(undefined);

    expect(lastOf(image, 'HEALTHCHECK').text).toMatch(/^CMD wget /);
    expect(lastOf(image, 'HEALTHCHECK').text).toContain(`"http://127.0.0.1:\${${variable}:-${port}}/livez"`);
    expect(lastOf(image, 'EXPOSE').args).toEqual([String(port)]);
  });
});

test('the two images differ in nothing but what they are and what they start', () => {
  const shared = (file: string) =>
    readStages(file).map((stage) => ({
      ...stage,
      instructions: stage.instructions.filter(
        ({ keyword }) => !['LABEL', 'EXPOSE', 'HEALTHCHECK', 'CMD'].includes(keyword),
      ),
    }));

  expect(shared('Dockerfile.worker')).toEqual(shared('Dockerfile.api'));
});

test.each(['.env', '.git', 'node_modules', 'tests', 'dev', 'docs'])('%s never reaches an image', (path) => {
  expect(isKeptOut(path)).toBe(true);
});

/** Whether .dockerignore keeps a path of the repository out of the build: the last pattern that matches decides. */
function isKeptOut(path: string): boolean {
  const patterns = readFileSync(join(REPOSITORY, '.dockerignore'), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
  const last = patterns.findLast((pattern) => {
    const glob = pattern.replace(/^!/, '');
    return glob === '*' || matchesGlob(path, glob);
  });
  return last !== undefined && !last.startsWith('!');
}
