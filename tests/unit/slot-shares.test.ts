import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { LONG_MS, type Slot, SlotShares } from '../../src/pacing/slot-shares.ts';

const SLOTS = 16;
let lent: number[];
let shares: SlotShares;

beforeEach(() => {
  vi.useFakeTimers();
  lent = [];
  shares = new SlotShares({ slots: SLOTS, onLent: (slots) => lent.push(slots) });
});
afterEach(() => void vi.useRealTimers());

function send(account: string, times = 1): Slot[] {
  return Array.from({ length: times }, () => {
    const slot = shares.enter(account);
    slot.sent();
    return slot;
  });
}

describe('an account', () => {
  test('that is quick or unknown has no share to keep to', () => {
    const slots = send('quick', 40);
    vi.advanceTimersByTime(LONG_MS - 1);
    for (const slot of slots) slot.leave();

    expect(shares.waitMsOf('quick')).toBe(0);
    expect(shares.waitMsOf('unknown')).toBe(0);
    expect(lent).toEqual([]);
  });

  test('that is slow has all slots to itself when no other is, and no more', () => {
    send('slow', SLOTS - 1);
    vi.advanceTimersByTime(LONG_MS);
    expect(shares.waitMsOf('slow')).toBe(0);

    send('slow');
    expect(shares.waitMsOf('slow')).toBeGreaterThan(0);
    expect(shares.waitMsOf('another')).toBe(0);
  });

  test('that is slow shares the slots evenly with the others that are', () => {
    for (let account = 0; account < SLOTS; account++) send(`slow ${account}`);
    vi.advanceTimersByTime(LONG_MS);

    expect(shares.waitMsOf('slow 0')).toBeGreaterThan(0);
    expect(shares.waitMsOf('quick')).toBe(0);
  });

  test('that is known to be slow takes no slot that is lent out', () => {
    const [known] = send('known');
    vi.advanceTimersByTime(LONG_MS);
    known?.leave();
    expect(shares.waitMsOf('known')).toBe(0);

    for (let account = 0; account < SLOTS; account++) send(`slow ${account}`);
    vi.advanceTimersByTime(LONG_MS);
    expect(shares.waitMsOf('known')).toBeGreaterThan(0);
  });

  test('that has become quick is slow no more', () => {
    const [slow] = send('acme');
    vi.advanceTimersByTime(LONG_MS);
    slow?.leave();
    for (let call = 0; call < 3; call++) {
      const [quick] = send('acme');
      vi.advanceTimersByTime(10);
      quick?.leave();
    }
    send('acme', SLOTS * 2);

    expect(shares.waitMsOf('acme')).toBe(0);
  });
});

test('as many slots are lent out as calls are long, and at most as many as there are', () => {
  const slots = send('slow', SLOTS + 1);
  vi.advanceTimersByTime(LONG_MS);
  for (const slot of slots) {
    slot.leave();
    slot.leave();
  }

  expect(lent.slice(0, 2)).toEqual([1, 2]);
  expect(Math.max(...lent)).toBe(SLOTS);
  expect(lent.at(-1)).toBe(0);
});

test('a place that was taken for no request says nothing of the account', () => {
  const slot = shares.enter('acme');
  vi.advanceTimersByTime(LONG_MS * 2);
  slot.leave();

  expect(lent).toEqual([]);
  expect(shares.waitMsOf('acme')).toBe(0);
});
