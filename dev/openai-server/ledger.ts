/** What was sent to the server, by which key: the evidence for "nothing paid twice" and "no key crossed tenants". */
import { createHash } from 'node:crypto';

export type LedgerEntry = {
  /** Counts from 1, in the order of arrival, since the start or the last reset. */
  readonly call: number;
  readonly atMs: number;
  /** Null when the request carried none. */
  readonly key: string | null;
  /** The organisation that the key belongs to; null for an unknown key. */
  organization: string | null;
  /** The `OpenAI-Organization` and `OpenAI-Project` headers as they came, null when they did not. */
  readonly sentOrganization: string | null;
  readonly sentProject: string | null;
  model: string | null;
  dimensions: number | null;
  /** The inputs, or 16 hex digits of each one's SHA-256 when the ledger keeps no texts. */
  texts: readonly string[];
  /** What was answered; 0 when no answer left the server; null while the call is being served. */
  status: number | null;
  /** Of the error that was answered. */
  code: string | null;
  tokens: number;
  /** The request was accepted and costs its tokens, also when the answer was spoiled or lost on its way. */
  billed: boolean;
  fault: string | null;
  durationMs: number;
};

export type LedgerSummary = {
  readonly calls: number;
  readonly billedCalls: number;
  readonly inputs: number;
  readonly billedInputs: number;
  readonly billedTokens: number;
  /** Distinct pairs of key and text that were billed; `billedInputs` minus this is what was paid for again. */
  readonly billedDistinct: number;
  readonly inFlight: number;
  readonly inFlightMax: number;
  readonly statuses: Readonly<Record<string, number>>;
  readonly callsByKey: Readonly<Record<string, number>>;
  readonly tokensByKey: Readonly<Record<string, number>>;
};

export class Ledger {
  readonly #keepTexts: boolean;
  readonly #now: () => number;
  #entries: LedgerEntry[] = [];
  #inFlight = 0;
  #inFlightMax = 0;

  constructor(keepTexts: boolean, now: () => number) {
    this.#keepTexts = keepTexts;
    this.#now = now;
  }

  /** All calls since the last reset, also those still being served. */
  get entries(): readonly LedgerEntry[] {
    return this.#entries;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** The most calls that were ever in service at once since the last reset. */
  get inFlightMax(): number {
    return this.#inFlightMax;
  }

  open(sender: Pick<LedgerEntry, 'key' | 'sentOrganization' | 'sentProject'>): LedgerEntry {
    const entry: LedgerEntry = {
      ...sender,
      call: this.#entries.length + 1,
      atMs: this.#now(),
      organization: null,
      model: null,
      dimensions: null,
      texts: [],
      status: null,
      code: null,
      tokens: 0,
      billed: false,
      fault: null,
      durationMs: 0,
    };
    this.#entries.push(entry);
    this.#inFlight += 1;
    this.#inFlightMax = Math.max(this.#inFlightMax, this.#inFlight);
    return entry;
  }

  noteTexts(entry: LedgerEntry, texts: readonly string[]): void {
    entry.texts = this.#keepTexts ? texts : texts.map(textHash);
  }

  close(entry: LedgerEntry, status: number, code: string | null = null): void {
    if (entry.status !== null) return;
    entry.status = status;
    entry.code = code;
    entry.durationMs = this.#now() - entry.atMs;
    this.#inFlight -= 1;
  }

  /** Forgets all calls and counts from 1 again. Calls in service end unrecorded. */
  reset(): void {
    this.#entries = [];
    this.#inFlightMax = this.#inFlight;
  }

  callsBy(key: string): LedgerEntry[] {
    return this.#entries.filter((entry) => entry.key === key);
  }

  /** Every text that came with this key, refused ones too, each once. Hashes when the ledger keeps no texts. */
  textsSentWith(key: string): Set<string> {
    return new Set(this.callsBy(key).flatMap((entry) => entry.texts));
  }

  /** How often a text was sent, by whomever, whatever the answer. */
  countOf(text: string): number {
    return this.#count(text, this.#entries);
  }

  /** How often a text was paid for. */
  billedCountOf(text: string): number {
    return this.#count(
      text,
      this.#entries.filter((entry) => entry.billed),
    );
  }

  /** The keys that ever sent a text. One look-up for all texts at once: `keysByText().get(text)`. */
  keysByText(): Map<string, Set<string | null>> {
    const keys = new Map<string, Set<string | null>>();
    for (const { key, texts } of this.#entries) {
      for (const text of texts) {
        const known = keys.get(text);
        if (known) known.add(key);
        else keys.set(text, new Set([key]));
      }
    }
    return keys;
  }

  summary(): LedgerSummary {
    const billed = this.#entries.filter((entry) => entry.billed);
    const pairs = new Set(billed.flatMap(({ key, texts }) => texts.map((text) => `${key}\n${text}`)));
    return {
      calls: this.#entries.length,
      billedCalls: billed.length,
      inputs: sumBy(this.#entries, (entry) => entry.texts.length),
      billedInputs: sumBy(billed, (entry) => entry.texts.length),
      billedTokens: sumBy(billed, (entry) => entry.tokens),
      billedDistinct: pairs.size,
      inFlight: this.#inFlight,
      inFlightMax: this.#inFlightMax,
      statuses: tally(this.#entries, (entry) => String(entry.status), one),
      callsByKey: tally(this.#entries, (entry) => String(entry.key), one),
      tokensByKey: tally(
        billed,
        (entry) => String(entry.key),
        (entry) => entry.tokens,
      ),
    };
  }

  #count(text: string, entries: readonly LedgerEntry[]): number {
    const wanted = this.#keepTexts ? text : textHash(text);
    return sumBy(entries, (entry) => entry.texts.filter((sent) => sent === wanted).length);
  }
}

/** What stands for a text in a ledger that keeps none. */
export function textHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

const one = () => 1;

function sumBy(entries: readonly LedgerEntry[], amount: (entry: LedgerEntry) => number): number {
  return entries.reduce((sum, entry) => sum + amount(entry), 0);
}

function tally(
  entries: readonly LedgerEntry[],
  name: (entry: LedgerEntry) => string,
  amount: (entry: LedgerEntry) => number,
): Record<string, number> {
  const totals: Record<string, number> = {};
  for (const entry of entries) totals[name(entry)] = (totals[name(entry)] ?? 0) + amount(entry);
  return totals;
}
