import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { FAILURES, type Verdict } from '../../src/core/failures.ts';

const doc = await readFile(new URL('../../docs/failures.md', import.meta.url), 'utf8');
const rows = doc
  .split('\n')
  .filter((line) => line.startsWith('| `'))
  .map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );

describe('docs/failures.md', () => {
  test('lists every failure as the code has it, in the same order, and no other', () => {
    const documented = rows.map(([code, verdict, because]) => ({ code, verdict, because }));
    const actual = Object.entries(FAILURES).map(([code, failure]) => ({ code: `\`${code}\``, ...failure }));

    expect(documented).toEqual(actual);
  });

  test('says of every failure what to do about it', () => {
    for (const row of rows) {
      expect(row, row[0]).toHaveLength(4);
      expect(row[3]?.length, row[0]).toBeGreaterThan(10);
    }
  });

  test('explains every verdict that a failure has', () => {
    const verdicts = new Set<Verdict>(Object.values(FAILURES).map(({ verdict }) => verdict));

    for (const verdict of verdicts) expect(doc, verdict).toContain(`\n| ${verdict} | `);
  });
});
