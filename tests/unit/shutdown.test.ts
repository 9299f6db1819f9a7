import { EventEmitter } from 'node:events';
import { describe, expect, test } from 'vitest';
import { createLog } from '../../src/log.ts';
import { type Closeable, closeAll, onSignals } from '../../src/shutdown.ts';

function setup() {
  const lines: { msg: string; resource?: string }[] = [];
  const log = createLog({
    level: 'info',
    name: 'test',
    destination: { write: (line) => void lines.push(JSON.parse(line)) },
  });
  const closed: string[] = [];
  const opened = (name: string, close: () => Promise<unknown> = async () => {}): Closeable => ({
    name,
    close: async () => {
      await close();
      closed.push(name);
    },
  });
  return { log, lines, closed, opened };
}

const never = () => new Promise<never>(() => {});

describe('closeAll', () => {
  test('closes in the reverse of the order opened', async () => {
    const { log, closed, opened } = setup();

    expect(await closeAll([opened('postgres'), opened('redis'), opened('server')], 1_000, log)).toBe(0);

    expect(closed).toEqual(['server', 'redis', 'postgres']);
  });

  test('goes on when one throws, and says so by its exit code', async () => {
    const { log, lines, closed, opened } = setup();
    const broken = opened('redis', async () => {
      throw new Error('gone');
    });

    expect(await closeAll([opened('postgres'), broken], 1_000, log)).toBe(1);

    expect(closed).toEqual(['postgres']);
    expect(lines).toContainEqual(expect.objectContaining({ msg: 'close_failed', resource: 'redis' }));
  });

  test('goes on when one throws at once instead of rejecting', async () => {
    const { log, closed, opened } = setup();
    const broken: Closeable = {
      name: 'redis',
      close: () => {
        throw new Error('gone');
      },
    };

    expect(await closeAll([opened('postgres'), broken], 1_000, log)).toBe(1);
    expect(closed).toEqual(['postgres']);
  });

  test('leaves one behind that hangs, in time for the others to be closed', async () => {
    const { log, closed, opened } = setup();
    const beganMs = performance.now();

    const exitCode = await closeAll([opened('postgres'), opened('redis'), opened('worker', never)], 300, log);

    expect(exitCode).toBe(1);
    expect(closed).toEqual(['redis', 'postgres']);
    expect(performance.now() - beganMs).toBeLessThan(1_000);
  });

  test('ends within the grace when everything hangs', async () => {
    const { log, opened } = setup();
    const beganMs = performance.now();

    expect(await closeAll([opened('a', never), opened('b', never), opened('c', never)], 200, log)).toBe(1);

    expect(performance.now() - beganMs).toBeLessThan(1_000);
  });

  test('tries everything when there is no grace at all', async () => {
    const { log, opened } = setup();
    const asked: string[] = [];
    const asks = (name: string) => opened(name, async () => void asked.push(name));

    await closeAll([asks('a'), asks('b')], 0, log);

    expect(asked).toEqual(['b', 'a']);
  });
});

describe('onSignals', () => {
  test('a signal first tells everybody, then closes, then ends the process', async () => {
    const { log, closed, opened } = setup();
    const signals = new EventEmitter();
    const stopping = new AbortController();
    const told: boolean[] = [];
    const resources = [opened('server', async () => void told.push(stopping.signal.aborted))];

    const code = await new Promise<number>((exit) => {
      onSignals({ stopping, opened: resources, graceMs: 1_000, log, exit, signals });
      signals.emit('SIGTERM', 'SIGTERM');
    });

    expect({ code, told, closed }).toEqual({ code: 0, told: [true], closed: ['server'] });
  });

  test('further signals change nothing', async () => {
    const { log, lines, closed, opened } = setup();
    const signals = new EventEmitter();
    const codes: number[] = [];
    let release = () => {};
    const held = opened('server', () => new Promise<void>((resolve) => (release = resolve)));

    const exited = new Promise<void>((resolve) => {
      const exit = (code: number) => {
        codes.push(code);
        resolve();
      };
      onSignals({ stopping: new AbortController(), opened: [held], graceMs: 5_000, log, exit, signals });
    });
    for (const signal of ['SIGINT', 'SIGINT', 'SIGTERM']) signals.emit(signal, signal);
    release();
    await exited;

    expect(codes).toEqual([0]);
    expect(closed).toEqual(['server']);
    expect(lines.filter(({ msg }) => msg === 'already_stopping')).toHaveLength(2);
  });
});
