/** The docs name files, routes, variables, events and tables: each must exist. */
import { existsSync } from 'node:fs';
import { glob, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { getTableName, is } from 'drizzle-orm';
import { PgTable } from 'drizzle-orm/pg-core';
import { describe, expect, test } from 'vitest';
import { RUN_TRANSITIONS } from '../../src/core/run.ts';
import * as schema from '../../src/db/schema.ts';
import * as upkeepSchema from '../../src/db/upkeep-schema.ts';
import { Environment } from '../../src/environment.ts';
import { backfillRoutes } from '../../src/http/backfills.ts';
import { budgetRoutes } from '../../src/http/budgets.ts';
import { controlRoutes } from '../../src/http/controls.ts';
import { credentialRoutes } from '../../src/http/credentials.ts';
import { quarantineRoutes } from '../../src/http/quarantine.ts';
import { rekeyRoutes } from '../../src/http/rekey.ts';
import { switchRoutes } from '../../src/http/switches.ts';
import { targetRoutes } from '../../src/http/targets.ts';
import { buildTestServer } from '../support/admin-server.ts';
import { readEnvExample } from '../support/env-example.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const read = (path: string) => readFile(join(root, path), 'utf8');
const pages = new Map<string, string>();
for await (const path of glob(['*.md', 'docs/**/*.md'], { cwd: root })) pages.set(path, await read(path));
const operations = pages.get('docs/operations.md') ?? '';
const architecture = pages.get('docs/architecture.md') ?? '';

describe('links', () => {
  test.each([...pages.keys()])('of %s lead to a file, and to a heading of it', (path) => {
    for (const [, link = ''] of withoutCode(pages.get(path) ?? '').matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(link)) continue;
      const [file = '', heading] = link.split('#');
      const target = file === '' ? path : join(dirname(path), decodeURIComponent(file));
      expect(existsSync(join(root, target)), `${path} -> ${link}`).toBe(true);
      if (heading !== undefined)
        expect(headingsOf(pages.get(target) ?? ''), `${path} -> ${link}`).toContain(heading);
    }
  });
});

describe('routes', async () => {
  const routes = await readRoutes();
  /** Pages and probes that the description of the API leaves out. */
  const others = [
    '/livez',
    '/readyz',
    '/metrics',
    '/docs',
    '/admin',
    '/admin/queues',
    '/admin/login',
    '/admin/runs/{runId}',
  ];
  const known = (path: string) => [...routes.keys(), ...others].some((route) => patternOf(route).test(path));

  test.each([...pages.keys()])('that %s names exist', (path) => {
    const text = (pages.get(path) ?? '').replaceAll('$api/', '/api/v1/admin/').replaceAll('$run', 'a-run');
    const found = text.matchAll(
      /(?<![\w./~-])\/(?:api\/v1\/admin|admin|livez|readyz|metrics|docs)(?:\/[\w${}:.-]+)*/g,
    );
    for (const [route] of found) {
      if (route === '/api/v1/admin') continue;
      expect(known(route.replace(/[.:]$/, '')), `${path}: ${route}`).toBe(true);
    }
  });

  test('that a command of docs/operations.md calls take its method', () => {
    const commands = [...operations.matchAll(/^(?:\$ )?admin (?:-X (\w+) )?"\$api(\/[^"?]*)/gm)];
    expect(commands.length).toBeGreaterThan(20);

    for (const [command, method = 'GET', path = ''] of commands) {
      const route = [...routes].find(([route]) =>
        patternOf(route).test(`/api/v1/admin${path.replace('$run', 'a-run')}`),
      );
      expect(route?.[1], command).toContain(method.toLowerCase());
    }
  });
});

describe('names', () => {
  test.each([...pages.keys()])('of variables in %s are those of the configuration', (path) => {
    const { toFillIn, shown } = readEnvExample();
    // Refused, ignored, of the tests, or Node's own.
    const others = [
      'INFILL_URL',
      'NODE_OPTIONS',
      'OPENAI_CUSTOM_HEADERS',
      'OPENAI_ORG_ID',
      'OPENAI_PROJECT_ID',
      'FUZZ_MINUTES',
      'TEST_DATABASE_URL',
      'TEST_REDIS_URL',
    ];
    const known = new Set([...Object.keys(Environment.shape), ...toFillIn, ...Object.keys(shown), ...others]);

    for (const [, code = ''] of (pages.get(path) ?? '').matchAll(/`([^`\n]+)`/g)) {
      for (const [name] of code.matchAll(/\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b/g)) {
        expect(known.has(name) || CONSTANTS.has(name), `${path}: ${name}`).toBe(true);
      }
    }
  });

  test('of log events and metrics in docs/operations.md are in the code', async () => {
    const source = await readSource();
    const events = tableAfter(operations, '## Log events').flatMap(([cell = '']) => [
      ...cell.matchAll(/`(\w+)`/g),
    ]);
    expect(events.length).toBeGreaterThan(20);

    for (const [, event] of events) expect(source.includes(`'${event}'`), event).toBe(true);
    for (const [metric] of operations.matchAll(/infill_[a-z_]+_(?:total|seconds)/g))
      expect(source.includes(`'${metric}'`), metric).toBe(true);
  });

  test('of log events in the code are in docs/operations.md', async () => {
    const source = await readSource();
    const logged = source.matchAll(
      /\b(?:log|request\.log)(?:\.\w+|\[[^\n]+?\])\([^;]*?'([a-z]+(?:_[a-z]+)+)',?\s*\)/g,
    );
    const quiet = ['request_done', 'already_stopping', 'board_failed'];

    for (const [, event = ''] of logged) {
      if (!quiet.includes(event)) expect(operations, event).toContain(`\`${event}\``);
    }
  });

  test('of reasons in docs/operations.md are what the code says', async () => {
    const source = await readSource();
    const cells = tableAfter(operations, '## Read a reason').map(([cell = '']) => cell);
    const fragments = cells.flatMap((cell) =>
      [...cell.matchAll(/`([^`]+)`/g)].map(([, fragment = '']) => fragment),
    );
    expect(fragments.length).toBeGreaterThan(8);

    for (const fragment of fragments
      .flatMap((fragment) => fragment.split(': '))
      .filter((part) => part !== '')) {
      expect(source.includes(fragment.replace(/: $/, '')), fragment).toBe(true);
    }
  });
});

describe('docs/architecture.md', () => {
  const moves = Object.entries(RUN_TRANSITIONS).flatMap(([from, targets]) =>
    targets.map((to) => `${from} -> ${to}`),
  );

  test('has every move of a run, in the order of the code, and no other', () => {
    const rows = tableAfter(architecture, '## The life of a run');

    expect(rows.map(([from = '', to = '']) => `${from} -> ${to}`.replaceAll('`', ''))).toEqual(moves);
  });

  test('draws every move of a run, and no other', () => {
    const drawn = [...architecture.matchAll(/^ {2}(\w+) --> (\w+)$/gm)].map(
      ([, from, to]) => `${from} -> ${to}`,
    );

    expect(drawn).toEqual(moves);
  });

  test('lists and draws every table of the schema', () => {
    const tables = Object.values({ ...schema, ...upkeepSchema }).flatMap((one) =>
      is(one, PgTable) ? [getTableName(one)] : [],
    );
    const listed = tableAfter(architecture, '## What lives where').map(([name = '']) =>
      name.replaceAll('`', ''),
    );

    expect(listed.toSorted()).toEqual(tables.toSorted());
    for (const table of tables) expect(architecture).toMatch(new RegExp(`^ {2}${table} \\{$`, 'm'));
  });

  test('says of every folder what Biome lets it import', async () => {
    const messages = (await read('biome.json')).matchAll(/"message": "(\w+)\/ may import only (.*?)\."/g);
    const rules = new Map([...messages].map(([, folder = '', list = '']) => [folder, list.split(', ')]));
    const rows = tableAfter(architecture, '## Who may import whom').map((cells) =>
      cells.map((cell) => [...cell.matchAll(/`(\w+)`/g)].map(([, name = '']) => name)),
    );

    const documented = rows.map(([[folder = ''] = [], allowed = []]) => [
      folder,
      [folder, ...allowed].toSorted(),
    ]);
    const enforced = [...rules].map(([folder, list]) => [folder, list.toSorted()]);
    expect(Object.fromEntries(documented)).toEqual(Object.fromEntries(enforced));
  });
});

/** Capital names in the docs that are no variables: constants of the code. */
const CONSTANTS = new Set<string>([
  'RUN_TRANSITIONS',
  'FAILURES',
  // Of glibc.
  'MALLOC_ARENA_MAX',
  'MALLOC_MMAP_THRESHOLD_',
  'MALLOC_TRIM_THRESHOLD_',
]);

function withoutCode(text: string): string {
  return text.replace(/^```[\s\S]*?^```/gm, '').replace(/`[^`\n]*`/g, '');
}

/** The anchors that GitHub makes of a page's headings. */
function headingsOf(text: string): string[] {
  const headings = text.replace(/^```[\s\S]*?^```/gm, '').matchAll(/^#+ (.*)$/gm);
  return [...headings].map(([, title = '']) =>
    title
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

/** The cells of the tables between a heading and the next one of its level, without their heads. */
function tableAfter(text: string, heading: string): string[][] {
  const [, after = ''] = text.split(`\n${heading}\n`);
  const section = after.split(/\n## /)[0] ?? '';
  const rows: string[][] = [];
  let isBody = false;
  for (const line of section.split('\n')) {
    if (/^\| ---/.test(line)) isBody = true;
    else if (!line.startsWith('|')) isBody = false;
    else if (isBody)
      rows.push(
        line
          .split('|')
          .slice(1, -1)
          .map((cell) => cell.trim()),
      );
  }
  return rows;
}

/** All of `src/`, in one text. */
async function readSource(): Promise<string> {
  const texts: string[] = [];
  for await (const path of glob('src/**/*.ts', { cwd: root })) texts.push(await read(path));
  return texts.join('\n');
}

/** Methods by path, as the API describes itself. No handler is called, so that nothing is needed behind them. */
async function readRoutes(): Promise<Map<string, string[]>> {
  const none = {} as never;
  const services = { db: none, queues: none, inspect: none, tryKey: none, learnedLimits: none };
  const deps = { ...services, targets: new Map(), keys: none, startFraction: 1 };
  const routes = [
    backfillRoutes,
    controlRoutes,
    credentialRoutes,
    quarantineRoutes,
    rekeyRoutes,
    switchRoutes,
    budgetRoutes,
    targetRoutes,
  ];
  const checks = ['postgres', 'redis'].map((name) => ({ name, check: async () => undefined }));
  const { app } = await buildTestServer({ checks, routes: routes.map((add) => add(deps)) });
  const { paths } = (await app.inject('/docs/json')).json() as { paths: Record<string, object> };
  await app.close();
  return new Map(Object.entries(paths).map(([path, methods]) => [path, Object.keys(methods)]));
}

function patternOf(route: string): RegExp {
  return new RegExp(`^${route.replace(/\{\w+\}/g, '[^/]+')}$`);
}
