import { readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** Who may import whom, besides itself. Files beside the folders are listed by their own name. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  core: [],
  db: ['core'],
  openai: ['core'],
  pacing: ['core'],
  queue: ['core'],
  credentials: ['core', 'db'],
  backfill: ['core', 'db', 'queue', 'pacing', 'credentials', 'openai'],
  http: ['core', 'db', 'queue', 'credentials', 'backfill', 'log'],
  workers: ['core', 'db', 'queue', 'credentials', 'backfill', 'pacing'],
  cli: [],
  config: ['core', 'environment'],
  environment: ['core'],
  log: [],
  shutdown: ['log'],
  start: [],
};
const ENTRIES = ['api', 'api-main', 'infill', 'worker', 'worker-main', 'migrate'];

/** Where a package may be imported; elsewhere only its types. Packages that are not listed may be used by anybody but `core`. */
const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  postgres: ['db/client.ts'],
  'drizzle-orm': ['db'],
  openai: ['openai'],
  undici: ['openai'],
  'gpt-tokenizer': ['openai'],
  bullmq: ['queue', 'workers/start.ts', 'workers/verdict.ts'],
  fastify: ['http'],
  '@bull-board': ['http'],
  '@fastify': ['http'],
  pino: ['log.ts'],
  ioredis: ['queue/redis.ts'],
};
const PURE_PACKAGES = ['node:assert', 'node:crypto', 'zod'];

type Import = {
  readonly file: string;
  readonly from: string;
  readonly typeOnly: boolean;
  readonly names: string;
};

const sources = filesBelow(join(ROOT, 'src')).map((path) => ({
  file: relative(join(ROOT, 'src'), path),
  text: readFileSync(path, 'utf8'),
}));
const imports = sources.flatMap(({ file, text }) => importsOf(file, text));
const inside = imports.filter(({ from }) => from.startsWith('.'));
const packages = imports.filter(({ from }) => !from.startsWith('.'));

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(
      (entry) => entry.isFile() && entry.name.endsWith('.ts') && !entry.parentPath.includes('node_modules'),
    )
    .map((entry) => join(entry.parentPath, entry.name));
}

function importsOf(file: string, text: string): Import[] {
  const statements = text.matchAll(/^(?:import|export)\s+(type\s+)?([^;'"]*?from\s+)?['"]([^'"]+)['"]/gm);
  const loaded = text.matchAll(/\bimport\(\s*['"]([^'"]+)['"]\s*\)/g);
  return [
    ...Array.from(statements, ([, type, names = '', from = '']) => ({
      file,
      from,
      names,
      typeOnly: type !== undefined || onlyTypes(names),
    })),
    ...Array.from(loaded, ([, from = '']) => ({ file, from, names: '', typeOnly: false })),
  ];
}

/** Whether each name in braces is marked as a type. */
function onlyTypes(names: string): boolean {
  const [, list] = /^\{(.*)\}\s*from\s+$/s.exec(names) ?? [];
  const each =
    list
      ?.split(',')
      .map((name) => name.trim())
      .filter(Boolean) ?? [];
  return each.length > 0 && each.every((name) => name.startsWith('type '));
}

/** The folder of a file below `src`, or the file's own name where it stands beside the folders. */
function roomOf(file: string): string {
  return dirname(file) === '.' ? basename(file, '.ts') : (file.split('/')[0] ?? '');
}

const targetOf = ({ file, from }: Import) => join(dirname(file), from);
const told = (found: readonly Import[]) => found.map(({ file, from }) => `${file} imports ${from}`);

describe('the folders of src', () => {
  test('are those that the table knows, and it knows no other', () => {
    const rooms = new Set(sources.map(({ file }) => roomOf(file)));

    expect([...rooms].sort()).toEqual([...Object.keys(MAY_IMPORT), ...ENTRIES].sort());
  });

  test('import only those that the table allows', () => {
    const wrong = inside.filter((one) => {
      const [from, to] = [roomOf(one.file), roomOf(targetOf(one))];
      return from !== to && !ENTRIES.includes(from) && !MAY_IMPORT[from]?.includes(to);
    });

    expect(told(wrong)).toEqual([]);
  });

  test('never import an entry, a test, or what is for development', () => {
    const wrong = inside.filter(
      (one) => ENTRIES.includes(roomOf(targetOf(one))) || targetOf(one).startsWith('..'),
    );

    expect(told(wrong)).toEqual([]);
  });

  test('know of the provider, in the story, no more than the types of the embedder', () => {
    const known = inside.filter(
      (one) => roomOf(one.file) === 'backfill' && roomOf(targetOf(one)) === 'openai',
    );

    expect(told(known.filter((one) => !one.typeOnly || targetOf(one) !== 'openai/embedder.ts'))).toEqual([]);
  });
});

describe('packages', () => {
  test('are imported where they belong; elsewhere only their types', () => {
    const wrong = packages.filter(({ file, from, typeOnly }) => {
      const name =
        from.startsWith('@') || !from.includes('/') ? (from.split('/')[0] ?? from) : from.split('/')[0];
      const rooms = PACKAGES[name ?? from];
      return (
        rooms !== undefined &&
        !typeOnly &&
        !rooms.some((room) => file === room || file.startsWith(`${room}/`))
      );
    });

    expect(told(wrong)).toEqual([]);
  });

  test('are kept out of core, but for a few that touch nothing outside', () => {
    const wrong = packages.filter(
      ({ file, from, names }) =>
        roomOf(file) === 'core' &&
        !(from === 'node:net' && /^\{ BlockList, isIP \}/.test(names)) &&
        !PURE_PACKAGES.some((name) => from === name || from.startsWith(`${name}/`)),
    );

    expect(told(wrong)).toEqual([]);
  });

  test("speak by BullMQ's exceptions in one file", () => {
    const speaking = imports.filter(({ names }) =>
      /\b(Delayed|Unrecoverable|WaitingChildren|RateLimit)Error\b/.test(names),
    );

    expect(speaking.map(({ file }) => file)).toEqual(['workers/verdict.ts']);
  });
});

describe('files', () => {
  const all = ['src', 'dev', 'tests', 'bench'].flatMap((folder) => filesBelow(join(ROOT, folder)));

  test('have at most 300 lines', () => {
    const long = all.filter((path) => readFileSync(path, 'utf8').trimEnd().split('\n').length > 300);

    expect(long.map((path) => relative(ROOT, path))).toEqual([]);
  });

  test('of tests state rules in the present tense, without "should", and neither sleep nor mock', () => {
    const tests = filesBelow(join(ROOT, 'tests')).filter((path) => path.endsWith('.test.ts'));
    for (const path of tests) {
      const text = readFileSync(path, 'utf8');
      expect(text, relative(ROOT, path)).not.toMatch(
        /\b(test|it)(\.\w+\([^)]*\))?\(\s*['"`][^'"`]*\bshould\b/,
      );
      expect(text, relative(ROOT, path)).not.toMatch(/\b(test|describe|it)\.(only|todo)\b/);
      expect(text, relative(ROOT, path)).not.toMatch(
        /\bvi\.mock\b|timers\/promises|await new Promise\(\(\w+\) => setTimeout/,
      );
    }
  });
});
