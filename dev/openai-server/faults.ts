/** The script of what goes wrong: rules that say which call, and how. */
import type { z } from 'zod';
import { FaultAction, type FaultCondition, type FaultKind, type FaultRule, type Outage } from './settings.ts';

/** A rule as a process of its own can be given it, and in the same process a test of the texts besides. */
export type Fault = Omit<z.input<typeof FaultRule>, 'when'> & {
  readonly when?: (z.input<typeof FaultCondition> & { textMatches?: (text: string) => boolean }) | undefined;
};

/** What a rule can look at. */
export type FaultSubject = {
  readonly call: number;
  readonly key: string | null;
  readonly organization: string | null;
  readonly model: string | null;
  readonly texts: readonly string[];
};

type Rule = {
  readonly id: number;
  readonly when: NonNullable<Fault['when']>;
  readonly action: FaultAction;
  readonly draw: () => number;
  left: number;
  struck: number;
};

/** Kinds that answer at once; all others let the request be judged and paid for first. */
export const IMMEDIATE: ReadonlySet<FaultKind> = new Set<FaultKind>([
  'status',
  'html',
  'error_in_200',
  'redirect',
  'reset',
  'hang',
]);

export class Faults {
  #rules: Rule[] = [];
  #nextId = 1;
  #outage: Outage = 'off';
  readonly #listen: (open: boolean) => Promise<void>;

  /** `listen` opens and closes the server's port. */
  constructor(listen: (open: boolean) => Promise<void>) {
    this.#listen = listen;
  }

  /** Adds a rule behind those that are there. Returns its id. */
  add(fault: Fault): number {
    const id = this.#nextId++;
    const action = FaultAction.parse(fault.action);
    const when = fault.when ?? {};
    const left = fault.times ?? Number.POSITIVE_INFINITY;
    this.#rules.push({ id, when, action, draw: generator(when.seed ?? id), left, struck: 0 });
    return id;
  }

  /** Removes one rule, or with no id all of them. The outage stays as it is. */
  clear(id?: number): void {
    this.#rules = id === undefined ? [] : this.#rules.filter((rule) => rule.id !== id);
  }

  list(): { id: number; when: object; action: FaultAction; left: number | null; struck: number }[] {
    return this.#rules.map(({ id, when, action, left, struck }) => ({
      id,
      when,
      action,
      left: Number.isFinite(left) ? left : null,
      struck,
    }));
  }

  get outage(): Outage {
    return this.#outage;
  }

  /** Resolves when the port is closed, or open again. */
  async setOutage(outage: Outage): Promise<void> {
    const wasRefusing = this.#outage === 'refuse';
    this.#outage = outage;
    if (wasRefusing !== (outage === 'refuse')) await this.#listen(outage !== 'refuse');
  }

  /**
   * Takes the faults of one call: the delays of all rules that fit, and the first other action.
   *
   * Uses up one of a rule's `times`, so it is asked once a call.
   */
  take(subject: FaultSubject): { readonly delayMs: number; readonly action: FaultAction | null } {
    let delayMs = 0;
    let action: FaultAction | null = null;
    for (const rule of this.#rules) {
      if (action !== null && rule.action.kind !== 'delay') continue;
      if (rule.left === 0 || !fits(rule, subject)) continue;
      rule.left -= 1;
      rule.struck += 1;
      if (rule.action.kind === 'delay') delayMs += rule.action.delayMs;
      else action = rule.action;
    }
    return { delayMs, action };
  }
}

function fits({ when, draw }: Rule, { call, key, organization, model, texts }: FaultSubject): boolean {
  const { textIncludes, textMatches } = when;
  return (
    (when.calls === undefined || when.calls.includes(call)) &&
    call >= (when.fromCall ?? 1) &&
    call <= (when.throughCall ?? Number.POSITIVE_INFINITY) &&
    (when.key === undefined || when.key === key) &&
    (when.organization === undefined || when.organization === organization) &&
    (when.model === undefined || when.model === model) &&
    texts.length >= (when.inputsMin ?? 0) &&
    (textIncludes === undefined || texts.some((text) => text.includes(textIncludes))) &&
    (textMatches === undefined || texts.some(textMatches)) &&
    // Last, so that only calls that fit use up a number.
    (when.probability === undefined || draw() < when.probability)
  );
}

/** Even numbers in [0, 1), the same for the same seed (mulberry32). */
function generator(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
