import { expect, test } from 'vitest';
import type { Answer } from '../../src/http/console/frame.ts';
import { Recent } from '../../src/http/console/recent.ts';

const answer = (body: string): Answer => ({ status: 200, body });

test('an answer that comes soon is fresh each time', async () => {
  const recent = new Recent();
  expect((await recent.of('k', async () => answer('first')))?.answer.body).toBe('first');
  expect((await recent.of('k', async () => answer('second')))?.answer.body).toBe('second');
});

test('one that takes long is nothing the first time, then the last one, and is asked for once', async () => {
  const recent = new Recent();
  let calls = 0;
  const finished: ((answer: Answer) => void)[] = [];
  const slow = () => {
    calls++;
    return new Promise<Answer>((resolve) => void finished.push(resolve));
  };

  expect(await Promise.all([recent.of('k', slow), recent.of('k', slow)])).toEqual([undefined, undefined]);
  expect(calls).toBe(1);
  finished[0]?.(answer('first'));
  await expect.poll(async () => (await recent.of('k', slow))?.answer.body).toBe('first');
  expect(calls).toBe(2);
});

test('one that fails is asked for again', async () => {
  const recent = new Recent();
  await expect(recent.of('k', async () => Promise.reject(new Error('planted')))).rejects.toThrow('planted');
  expect((await recent.of('k', async () => answer('then')))?.answer.body).toBe('then');
});
