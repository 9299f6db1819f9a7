/** Writes the body of an answer with vectors, right or spoiled as a fault asks. */
import type { FaultAction } from './settings.ts';
import type { EmbeddingsRequest } from './validation.ts';

type Item = { index: number; vector: Float32Array };

/** The body as OpenAI writes it. `spoil` must be none of the faults that answer at once; null is a right answer. */
export function embeddingsBody(
  request: EmbeddingsRequest,
  vectors: readonly Float32Array[],
  tokens: number,
  spoil: FaultAction | null,
): string {
  const items = spoiled(
    vectors.map((vector, index) => ({ index, vector })),
    spoil,
  );
  const write = request.encodingFormat === 'base64' ? base64Json : numbersJson;
  // Put together by hand: JSON.stringify would go through every base64 letter again, looking for some to escape.
  const data = items.map(
    ({ index, vector }) => `{"object":"embedding","index":${index},"embedding":${write(vector)}}`,
  );
  const usage = `{"prompt_tokens":${tokens},"total_tokens":${tokens}}`;
  return `{"object":"list","data":[${data.join(',')}],"model":${JSON.stringify(request.model)},"usage":${usage}}`;
}

function spoiled(items: Item[], spoil: FaultAction | null): Item[] {
  switch (spoil?.kind) {
    case 'short':
      return items.slice(0, -1);
    case 'long':
      return [...items, { index: items.length, vector: items[0]?.vector ?? new Float32Array() }];
    case 'reordered':
      return items.toReversed();
    case 'duplicate_index':
      // A lone item cannot repeat an index; it gets one that is out of range.
      if (items.length === 1) return items.map((item) => ({ ...item, index: 1 }));
      return items.map((item, position) => (position === 1 ? { ...item, index: 0 } : item));
    case 'wrong_dimensions': {
      const { dimensions } = spoil;
      return spoilOne(items, spoil.item, (vector) => resized(vector, dimensions ?? vector.length - 1));
    }
    case 'nan':
      return spoilOne(items, spoil.item, (vector) => vector.with(vector.length >> 1, Number.NaN));
    case 'infinite':
      return spoilOne(items, spoil.item, (vector) =>
        vector.with(vector.length >> 1, Number.POSITIVE_INFINITY),
      );
    case 'zeros':
      return spoilOne(items, spoil.item, (vector) => new Float32Array(vector.length));
    default:
      return items;
  }
}

function spoilOne(items: Item[], item = 0, spoil: (vector: Float32Array) => Float32Array): Item[] {
  const position = Math.min(item, items.length - 1);
  return items.map((kept, at) => (at === position ? { ...kept, vector: spoil(kept.vector) } : kept));
}

function resized(vector: Float32Array, dimensions: number): Float32Array {
  const other = new Float32Array(dimensions).fill(0.01);
  other.set(vector.subarray(0, dimensions));
  return other;
}

/** Little-endian float32, as the machine has them: this server runs on no big-endian one. */
function base64Json(vector: Float32Array): string {
  return `"${Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength).toString('base64')}"`;
}

/** Not finite numbers have no JSON: NaN is written as null, and an infinite one as a number that no double can hold. */
function numbersJson(vector: Float32Array): string {
  let numbers = '';
  for (const value of vector) {
    const text = Number.isFinite(value) ? String(value) : Number.isNaN(value) ? 'null' : '1e999';
    numbers += numbers === '' ? text : `,${text}`;
  }
  return `[${numbers}]`;
}
