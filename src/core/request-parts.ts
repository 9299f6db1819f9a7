/** The parts that a refused request is sent in, and what their outcome says about its size. */

export type Part<Item> = {
  readonly inputs: readonly Item[];
  /** The request that it was cut from; null for one that nothing is to be learnt of. */
  readonly of: CutRequest | null;
};

/** A request that was refused, or failed, and is sent in parts. */
export type CutRequest = {
  /** Parts whose outcome is not known. */
  open: number;
  /** A part of it was cut in turn. */
  isNested: boolean;
  /** No input of it was refused alone so far. */
  isClean: boolean;
  /** Size of the largest part that passed. */
  passedMax: number;
  /** Null when it was cut without being sent. */
  readonly because: 'refused' | 'failed' | null;
  readonly of: CutRequest | null;
};

/** Cuts a list into parts of `size`; the last one may be shorter. */
export function chunks<Item>(inputs: readonly Item[], size: number): readonly (readonly Item[])[] {
  const count = Math.ceil(inputs.length / size);
  return Array.from({ length: count }, (_, index) => inputs.slice(index * size, (index + 1) * size));
}

export function cutInto<Item>(
  { of }: Part<Item>,
  pieces: readonly (readonly Item[])[],
  because: CutRequest['because'],
): readonly Part<Item>[] {
  if (of !== null) of.isNested = true;
  const cut: CutRequest = { open: pieces.length, isNested: false, isClean: true, passedMax: 0, because, of };
  return pieces.map((inputs) => ({ inputs, of: cut }));
}

/**
 * Notes that a part passed. Tells `onSizeLimit` of each request that was refused, or failed, although all its parts passed at
 * once: it was too large.
 */
export function passed(
  of: CutRequest | null,
  size: number,
  onSizeLimit: ((passedMax: number, because: 'refused' | 'failed') => void) | undefined,
): void {
  for (let cut = of; cut !== null; cut = cut.of) {
    cut.open -= 1;
    cut.passedMax = Math.max(cut.passedMax, size);
    if (cut.open > 0 || !cut.isClean) return;
    // Those around it failed for the same reason, and prove nothing more.
    if (cut.because !== null && !cut.isNested) onSizeLimit?.(cut.passedMax, cut.because);
  }
}

/** At most `count` indexes of a list of `length`, in order, the middle of each of as many equal parts. */
export function spreadIndexes(length: number, count: number): number[] {
  const parts = Math.min(length, count);
  return Array.from({ length: parts }, (_, part) => Math.floor(((part + 0.5) * length) / parts));
}
