import { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { ANNOUNCE_EVERY_MS, countSlots } from '../../src/pacing/worker-slots.ts';
import { startSystem, until } from '../support/system.ts';

test('a worker that stops counts for no slots from then on, however long its last batch takes', async () => {
  const system = await startSystem({ gated: true, env: { SHUTDOWN_GRACE_MS: '15000' } });
  const redis = new Redis(system.redisUrl);
  try {
    await system.addRows([{ tenant: 'acme', text: 'the last note' }]);
    let letGo = (): void => undefined;
    const arrived = new Promise<void>((resolve) => {
      system.gate.onAnswerTo('the last note', async () => {
        resolve();
        await new Promise<void>((open) => {
          letGo = open;
        });
      });
    });
    await system.call('POST', '/api/v1/admin/backfill-embeddings');
    await arrived;
    await until(async () => (await countSlots(redis)) > 0, 'the worker counts');

    const startedMs = performance.now();
    const worker = system.processes.at(-1);
    const ended = worker?.stop();
    await until(async () => (await countSlots(redis)) === 0, 'the worker counts no longer');
    let slotsMost = 0;
    await until(async () => {
      slotsMost = Math.max(slotsMost, await countSlots(redis));
      return performance.now() - startedMs > ANNOUNCE_EVERY_MS + 1_000;
    }, 'the worker would have announced itself again');
    expect(worker?.child.exitCode).toBeNull();
    letGo();
    expect(await ended).toBe(0);
    expect(slotsMost).toBe(0);
  } finally {
    redis.disconnect();
    await system.close();
  }
});
