import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { createPaidTexts, type PaidScope, type ReadVectors } from '../../src/pacing/paid-texts.ts';
import { useRedis } from '../support/redis.ts';

const store = useRedis();
const scope: PaidScope = {
  runId: 'run-1',
  tenantId: 'acme',
  target: 'notes',
  model: 'text-embedding-3-small',
  dimensions: 3,
};
const hashOf = (text: string) => createHash('sha256').update(text).digest('hex');
const [first, second, other] = [hashOf('first'), hashOf('second'), hashOf('other')] as const;
const VECTOR = Float32Array.of(1, 2, 3);
const nobody: ReadVectors = async () => {
  throw new Error('no row was to be read');
};

test('a text that was written is read from its row', async () => {
  const paid = createPaidTexts(store.redis, 10);
  await paid.wrote(scope, [
    { textHash: first, rowId: '7' },
    { textHash: second, rowId: '8' },
  ]);
  const asked: (readonly string[])[] = [];
  const found = await paid.find(scope, [first, other], async (rowIds) => {
    asked.push(rowIds);
    return new Map([[first, VECTOR]]);
  });

  expect(asked).toEqual([['7']]);
  expect(found).toEqual(new Map([[first, VECTOR]]));
});

test('a row whose text was edited since gives no vector, whatever its text is now', async () => {
  const paid = createPaidTexts(store.redis, 10);
  await paid.wrote(scope, [{ textHash: first, rowId: '7' }]);

  expect(await paid.find(scope, [first, other], async () => new Map([[second, VECTOR]]))).toEqual(new Map());
});

test.each<[string, Partial<PaidScope>]>([
  ['run', { runId: 'run-2' }],
  ['tenant', { tenantId: 'globex' }],
  ['target', { target: 'letters' }],
  ['model', { model: 'text-embedding-3-large' }],
  ['number of dimensions', { dimensions: 4 }],
])('another %s finds nothing of it', async (_what, change) => {
  const paid = createPaidTexts(store.redis, 10);
  await paid.wrote(scope, [{ textHash: first, rowId: '7' }]);
  await paid.keep(scope, new Map([[second, VECTOR]]));

  expect(await paid.find({ ...scope, ...change }, [first, second], nobody)).toEqual(new Map());
});

test('vectors that are in no row are kept, as many as are allowed', async () => {
  const paid = createPaidTexts(store.redis, 2);
  await paid.keep(scope, new Map([[first, VECTOR]]));
  await paid.keep(scope, new Map([[second, VECTOR]]));
  await paid.keep(scope, new Map([[other, VECTOR]]));

  const found = await paid.find(scope, [first, second, other], nobody);

  expect([...found.values()]).toEqual([VECTOR, VECTOR]);
});

test('more texts than are remembered push the oldest out, and none of the last 100,000', async () => {
  const paid = createPaidTexts(store.redis, 10);
  const hashes = Array.from({ length: 206_000 }, (_, index) => hashOf(String(index)));
  for (let index = 0; index < hashes.length; index += 2_000) {
    await paid.wrote(
      scope,
      hashes.slice(index, index + 2_000).map((textHash) => ({ textHash, rowId: textHash })),
    );
  }
  const read: ReadVectors = async (rowIds) => new Map(rowIds.map((rowId) => [rowId, VECTOR]));
  const found = async (at: number) => (await paid.find(scope, hashes.slice(at, at + 1), read)).size;

  expect(await Promise.all([0, 101_999, 106_000, 205_999].map(found))).toEqual([0, 0, 1, 1]);
});

test('nothing is remembered with a size of 0', async () => {
  const paid = createPaidTexts(store.redis, 0);
  await paid.wrote(scope, [{ textHash: first, rowId: '7' }]);

  expect(await paid.find(scope, [first], nobody)).toEqual(new Map());
  expect(await store.redis.keys('{infill}:*')).toEqual([]);
});

test.each([
  ['not a number', Float32Array.of(1, Number.NaN, 3)],
  ['infinite', Float32Array.of(1, Number.POSITIVE_INFINITY, 3)],
  ['all zero', Float32Array.of(0, 0, 0)],
])('a vector that somebody planted and that is %s is not taken', async (_what, planted) => {
  const paid = createPaidTexts(store.redis, 10);
  await paid.keep(scope, new Map([[first, planted]]));

  expect(await paid.find(scope, [first], nobody)).toEqual(new Map());
});

test('an id that somebody planted and that is none of the table finds nothing, and other errors of reading are told', async () => {
  const paid = createPaidTexts(store.redis, 10);
  await paid.wrote(scope, [{ textHash: first, rowId: 'planted' }]);
  const failing =
    (code: string): ReadVectors =>
    () =>
      Promise.reject(new Error('failed query', { cause: Object.assign(new Error('refused'), { code }) }));

  expect(await paid.find(scope, [first], failing('22P02'))).toEqual(new Map());
  await expect(paid.find(scope, [first], failing('57P01'))).rejects.toThrow('failed query');
});
