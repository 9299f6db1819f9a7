import { describe, expect, test } from 'vitest';
import { type BudgetState, budgetReached, budgetRoom } from '../../src/core/budget.ts';

const MODEL = 'text-embedding-3-small';
const state = (changes: Partial<BudgetState> = {}): BudgetState => ({
  maxTokens: 1_000,
  maxCostUsd: null,
  month: '2026-11',
  tokens: 0,
  costUsd: 0,
  rowsInHand: 0,
  tokensPerRow: 10,
  ...changes,
});

describe('the room that a budget leaves', () => {
  test('is what is neither spent nor in hand, in rows', () => {
    expect(budgetRoom(state(), MODEL)).toEqual({ kind: 'open', rowsMax: 100 });
    expect(budgetRoom(state({ tokens: 500, rowsInHand: 30 }), MODEL)).toEqual({ kind: 'open', rowsMax: 20 });
  });

  test('is reserved while what is in hand may use it up', () => {
    expect(budgetRoom(state({ tokens: 500, rowsInHand: 50 }), MODEL)).toEqual({ kind: 'reserved' });
  });

  test('is a row at a time when less than a row is left, so that the end is reached', () => {
    expect(budgetRoom(state({ tokens: 995 }), MODEL)).toEqual({ kind: 'open', rowsMax: 1 });
    expect(budgetRoom(state({ maxTokens: 5, tokensPerRow: null }), MODEL)).toEqual({
      kind: 'open',
      rowsMax: 1,
    });
  });

  test('is none when the cap is reached, with the reason', () => {
    expect(budgetRoom(state({ tokens: 1_000, rowsInHand: 3 }), MODEL)).toEqual({
      kind: 'reached',
      reason: 'budget_reached: 1000 of 1000 tokens of 2026-11 are spent',
    });
  });

  test('in dollars goes by the price of the model, where that is known', () => {
    const inUsd = state({ maxTokens: null, maxCostUsd: 0.02, costUsd: 0.01 });

    expect(budgetRoom(inUsd, MODEL)).toEqual({ kind: 'open', rowsMax: 50_000 });
    expect(budgetRoom(inUsd, 'a model without a price')).toMatchObject({ kind: 'open' });
    expect(budgetReached({ ...inUsd, costUsd: 0.02 })).toContain(
      'budget_reached: $0.0200 of $0.02 of 2026-11',
    );
  });

  test('is that of the tighter cap', () => {
    expect(budgetRoom(state({ maxCostUsd: 0.00001 }), MODEL)).toEqual({ kind: 'open', rowsMax: 50 });
  });
});
