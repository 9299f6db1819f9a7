/** How figures and tables look on a terminal. */

/** Columns as wide as their widest cell; numbers stand to the right. */
export function table(
  heads: readonly string[],
  rows: readonly (readonly (string | number | null)[])[],
): string {
  const lines = [heads, ...rows.map((row) => row.map(cell))];
  const widths = heads.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? '').length)));
  const isNumber = heads.map((_, column) => rows.every((row) => typeof row[column] === 'number'));
  return lines
    .map((line) =>
      line
        .map((text, column) =>
          isNumber[column] ? text.padStart(widths[column] ?? 0) : text.padEnd(widths[column] ?? 0),
        )
        .join('  ')
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join('');
}

function cell(value: string | number | null): string {
  if (value === null) return '-';
  return typeof value === 'number' ? count(value) : value;
}

export function count(value: number): string {
  return Number.isInteger(value) ? value.toLocaleString('en-US') : String(value);
}

export function dollars(value: number | null): string {
  if (value === null) return 'price not known';
  return `$${value.toFixed(value < 1 ? 4 : 2)}`;
}

export function duration(seconds: number): string {
  if (seconds < 1) return 'under 1 s';
  if (seconds < 120) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** "3 of 10 rows (30%)"; 100% only when nothing is left. */
export function share(part: number, whole: number): string {
  const percent = whole === 0 ? 100 : Math.floor((part / whole) * 100);
  return `${count(part)} of ${count(whole)} (${part === whole ? 100 : Math.min(99, percent)}%)`;
}
