import { TEXT_MARK } from './tables.ts';

const LEAKS_KEPT = 5;

/** Reads along in the product's logs: counts events, and finds keys and texts that have no business there. */
export class LogWatch {
  readonly events = new Map<string, number>();
  readonly leaks: string[] = [];
  readonly #secrets: readonly string[];

  /** @param secrets what no line may hold besides a text: beginnings of keys. */
  constructor(secrets: readonly string[]) {
    this.#secrets = secrets;
  }

  see = (line: string): void => {
    const event = /"msg":"([a-z_]+)"/.exec(line)?.[1];
    if (event !== undefined) this.events.set(event, (this.events.get(event) ?? 0) + 1);
    if (this.leaks.length >= LEAKS_KEPT) return;
    if (line.includes(TEXT_MARK)) this.leaks.push(`a log line holds a text: ${line.slice(0, 400)}`);
    else if (this.#secrets.some((secret) => line.includes(secret)))
      this.leaks.push(`a log line holds a key: ${line.slice(0, 400)}`);
  };

  count(event: string): number {
    return this.events.get(event) ?? 0;
  }
}
