import { existsSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const page = readFileSync('docs/compatibility.md', 'utf8');
const lines = page
  .split('\n')
  .filter((line) => line.startsWith('| ') && !/^\| (kind|---)/.test(line))
  .map((line) => {
    const cells = line.slice(2, -2).split(' | ');
    const [, file = '', title = ''] = /^`([^`]+)` (.+)$/.exec(cells.at(-1) ?? '') ?? [];
    return { kind: cells[0] ?? '', columns: cells.length, file, title };
  });

test('docs/compatibility.md has lines', () => {
  expect(lines.length).toBeGreaterThan(10);
});

test.each(lines)(
  '"$kind" in docs/compatibility.md is held by a test that exists',
  ({ columns, file, title }) => {
    expect(columns).toBe(4);
    expect(existsSync(file), file).toBe(true);
    expect(readFileSync(file, 'utf8')).toContain(title);
  },
);
