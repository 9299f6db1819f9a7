import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type System, startSystem, until } from '../support/system.ts';

let system: System;
beforeAll(async () => {
  system = await startSystem({ workers: 1 });
});
afterAll(() => system?.close());

const history = (name: string, query = '') =>
  system.call('GET', `/api/v1/admin/targets/${name}/history${query}`);

describe('the history of a target', () => {
  test('has the samples that a worker took, and no gap where none was seen', async () => {
    await until(async () => (await history('notes')).body.items.length > 0, 'the first sample is taken');

    const { status, body } = await history('notes', '?hours=1');
    expect(status).toBe(200);
    expect(body).toMatchObject({ target: 'notes', gapSince: null });
    expect(body.items).toHaveLength(1);
    expect(Object.keys(body.items[0]).toSorted()).toEqual([
      'at',
      'embedded',
      'estimated',
      'missing',
      'quarantined',
      'stale',
      'unembeddable',
      'unverified',
    ]);
  });

  test('is empty of a target whose table is not there, and unknown of one that is not in the file', async () => {
    expect((await history('absent')).body).toEqual({ target: 'absent', gapSince: null, items: [] });
    const unknown = await history('nots');
    expect(unknown.status).toBe(404);
    expect(unknown.body.detail).toContain('The targets are: notes, absent');
    expect((await history('notes', '?hours=0')).status).toBe(400);
  });
});
