/** What the demo says, and how: colours and redrawing on a terminal, plain lines anywhere else. */

const { stdout, env } = process;
export const isLive = stdout.isTTY === true && env.TERM !== 'dumb';
const hasColours = isLive && (env.NO_COLOR ?? '') === '';

const paintWith = (code: number) => (text: string) => (hasColours ? `\x1b[${code}m${text}\x1b[0m` : text);
export const bold = paintWith(1);
export const dim = paintWith(2);
export const red = paintWith(31);
export const green = paintWith(32);
export const yellow = paintWith(33);
export const cyan = paintWith(36);

export function say(line = ''): void {
  stdout.write(`${line}\n`);
}

export function heading(text: string): void {
  say(`\n${bold(text)}`);
}

/** Letters that fit on a line. A pipe has no width: long enough for a search result, short enough to read. */
export function width(): number {
  return Math.max(60, Math.min(isLive ? stdout.columns || 100 : 110, 120));
}

export function cut(text: string, letters: number): string {
  const line = text.replace(/\s+/g, ' ').trim();
  return line.length <= letters ? line : `${line.slice(0, letters - 1).trimEnd()}…`;
}

export function grouped(count: number): string {
  return count.toLocaleString('en-US');
}

export function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}

/** `total` 0 is a full bar: there is nothing left to do. */
export function bar(done: number, total: number, letters: number): string {
  const filled = total <= 0 ? letters : Math.floor((Math.min(done, total) / total) * letters);
  return `${green('█'.repeat(filled))}${dim('░'.repeat(letters - filled))}`;
}

/** Lines of equal columns, the first one to the left and all others to the right. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [index, cell] of row.entries()) widths[index] = Math.max(widths[index] ?? 0, cell.length);
  }
  return rows.map((row) =>
    row
      .map((cell, index) => (index === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[index] ?? 0)))
      .join('   '),
  );
}

/** A block of lines that is drawn again in place. Only for a terminal. */
export class LiveBlock {
  #drawn = 0;

  draw(lines: readonly string[]): void {
    const up = this.#drawn === 0 ? '' : `\x1b[${this.#drawn}A`;
    stdout.write(`${up}\x1b[0J${lines.join('\n')}\n`);
    this.#drawn = lines.length;
  }
}
