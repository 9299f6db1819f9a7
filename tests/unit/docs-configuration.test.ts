import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { configurationPage } from '../../dev/docs/configuration-page.ts';
import { targetsSchema } from '../../dev/docs/targets-schema.ts';
import { TargetEntry } from '../../src/core/target.ts';
import { Environment } from '../../src/environment.ts';

const read = (path: string) => readFile(new URL(`../../${path}`, import.meta.url), 'utf8');
/** Names in the first column of the page's tables. */
const named = [...configurationPage().matchAll(/^\| `(\w+)` \| (.*?) \|/gm)];

describe('what `npm run docs` writes', () => {
  test('is what docs/configuration.md holds', async () => {
    expect(await read('docs/configuration.md')).toBe(configurationPage());
  });

  test('is what targets.schema.json holds', async () => {
    expect(await read('targets.schema.json')).toBe(targetsSchema());
  });
});

describe('docs/configuration.md', () => {
  test('lists every variable and every field of a target, in the order of the code', () => {
    const names = named.map(([, name]) => name);

    expect(names).toEqual([...Object.keys(Environment.shape), ...Object.keys(TargetEntry.shape)]);
  });

  test('says of each one what it is, and never that it must be undefined', () => {
    for (const [name, schema] of Object.entries({ ...Environment.shape, ...TargetEntry.shape })) {
      expect(schema.description?.length, name).toBeGreaterThan(5);
    }
    expect(configurationPage()).not.toMatch(/undefined|NaN|\[object/);
  });

  test('calls required what the processes do not start without', () => {
    const required = named
      .filter(([, , standard]) => standard?.startsWith('required'))
      .map(([, name]) => name);

    expect(required.slice(0, 3)).toEqual(['DATABASE_URL', 'REDIS_URL', 'ADMIN_SECRET']);
  });
});

describe('targets.schema.json', () => {
  const schema = z.fromJSONSchema(JSON.parse(targetsSchema()));
  const entry = { table: 'notes', id: 'id', text: ['body'], embedding: 'vector', model: 'm', dimensions: 3 };

  test('accepts the targets.json that ships', async () => {
    expect(schema.safeParse(JSON.parse(await read('targets.json'))).error).toBeUndefined();
  });

  test('accepts a target without its optional fields', () => {
    expect(schema.safeParse({ targets: { notes: entry } }).error).toBeUndefined();
  });

  test.each([
    ['a field that no target has', { ...entry, tenantColumn: 'tenant_id' }],
    ['no text column', { ...entry, text: [] }],
    ['dimensions that are not a number', { ...entry, dimensions: '3' }],
    ['a word that onTooLong does not know', { ...entry, onTooLong: 'drop' }],
    ['no table', { ...entry, table: undefined }],
  ])('refuses %s', (_what, wrong) => {
    expect(schema.safeParse({ targets: { notes: wrong } }).success).toBe(false);
  });
});
