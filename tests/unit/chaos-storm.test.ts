import { describe, expect, test } from 'vitest';
import { parseChaosArguments } from '../../dev/chaos/arguments.ts';
import { planStorm, TROUBLES } from '../../dev/chaos/schedule.ts';
import { longestSilenceMs } from '../../dev/chaos/silence.ts';

describe('a storm', () => {
  const size = { durationMs: 600_000, workers: 3 };

  test('is the same for the same seed, and another for another', () => {
    expect(planStorm(7, size)).toEqual(planStorm(7, size));
    expect(planStorm(7, size)).not.toEqual(planStorm(8, size));
  });

  test('that is longer begins as the shorter one does', () => {
    const short = planStorm(7, { ...size, durationMs: 60_000 });

    expect(planStorm(7, size).slice(0, short.length)).toEqual(short);
  });

  test('holds every trouble, each within its bounds', () => {
    const storm = planStorm(7, { ...size, durationMs: 3_600_000 });

    expect(new Set(storm.map(({ kind }) => kind))).toEqual(new Set(Object.keys(TROUBLES)));
    for (const { kind, forMs, worker } of storm) {
      const [min, max] = TROUBLES[kind].forMs;
      expect(forMs).toBeGreaterThanOrEqual(min);
      expect(forMs).toBeLessThanOrEqual(max);
      expect(worker).toBeLessThan(3);
    }
  });

  test('strikes nothing that is still in trouble', () => {
    const untilMs = new Map<string, number>();
    for (const { kind, atMs, forMs, worker } of planStorm(7, size)) {
      const { on } = TROUBLES[kind];
      if (on === null) continue;
      const thing = on === 'worker' ? `worker ${worker}` : on;
      expect(atMs).toBeGreaterThan(untilMs.get(thing) ?? -1);
      untilMs.set(thing, atMs + forMs);
    }
  });
});

describe('the longest silence', () => {
  const samples = (...workable: boolean[]) =>
    workable.map((isWorkable, index) => ({
      atMs: index * 500,
      workable: isWorkable ? ['notes'] : [],
      liveJobs: 0,
    }));

  test('lasts from a call to the last look that found work and no other call', () => {
    expect(longestSilenceMs(samples(true, true, true, true, true), 'notes', [400, 1_900])).toBe(1_100);
  });

  test('begins anew when something was wrong, or nothing was to do', () => {
    expect(longestSilenceMs(samples(true, true, false, true, true), 'notes', [])).toBe(500);
  });

  test('of another target does not count', () => {
    expect(longestSilenceMs(samples(true, true, true), 'tickets', [])).toBe(0);
  });
});

describe('the arguments', () => {
  const drawSeed = () => 42;

  test('have defaults, and a seed is drawn when none is given', () => {
    expect(parseChaosArguments([], drawSeed)).toEqual({ minutes: 5, seed: 42, verbose: false });
  });

  test('may come after a -- of their own', () => {
    expect(parseChaosArguments(['--', '--minutes', '20', '--seed', '7'], drawSeed)).toMatchObject({
      minutes: 20,
      seed: 7,
    });
  });

  test.each([
    ['--minutes', '0'],
    ['--minutes', 'five'],
    ['--seed', '-1'],
    ['--seed', '1.5'],
    ['--unknown', '1'],
  ])('refuse %s %s', (name, value) => {
    expect(() => parseChaosArguments([name, value], drawSeed)).toThrow();
  });
});
