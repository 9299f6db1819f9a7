/** Prints figures for people. */
import { readFileSync, writeFileSync } from 'node:fs';

const PAGE = new URL('../docs/benchmarks.md', import.meta.url);

/**
 * Prints a table in Markdown. With `--update` on the command line it also replaces the table of that `name` in
 * `docs/benchmarks.md`, which stands there between `<!-- NAME -->` and `<!-- /NAME -->`.
 */
export function printTable(
  title: string,
  head: readonly string[],
  rows: readonly (readonly (string | number)[])[],
  name?: string,
): void {
  const line = (cells: readonly (string | number)[]) => `| ${cells.join(' | ')} |`;
  const table = [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
  console.log(`\n${title}\n\n${table}`);
  if (name !== undefined && process.argv.includes('--update')) updatePage(name, table);
}

function updatePage(name: string, table: string): void {
  const page = readFileSync(PAGE, 'utf8');
  const [before, rest] = page.split(`<!-- ${name} -->`);
  const [, after] = rest?.split(`<!-- /${name} -->`) ?? [];
  if (after === undefined) throw new Error(`docs/benchmarks.md has no place for the table ${name}`);
  writeFileSync(PAGE, `${before}<!-- ${name} -->\n\n${table}\n\n<!-- /${name} -->${after}`);
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** The value below which `share` of the values lie, between two of them in proportion. NaN without values. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const place = (sorted.length - 1) * share;
  const low = sorted[Math.floor(place)] ?? Number.NaN;
  const high = sorted[Math.ceil(place)] ?? Number.NaN;
  return low + (high - low) * (place - Math.floor(place));
}

export function round(value: number, digits = 0): number {
  return Number(value.toFixed(digits));
}

export function percent(share: number): string {
  return `${(share * 100).toFixed(1)}%`;
}
