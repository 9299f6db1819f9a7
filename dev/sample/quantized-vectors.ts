import { createHash } from 'node:crypto';

/**
 * A file of vectors in a quarter of their size: a byte a number instead of four, and a scale a vector. The cosine
 * between a vector and its copy is above 0.9999, so searches rank the same.
 *
 * Layout, little endian: dimensions (uint32), count (uint32), SHA-256 of the texts; then, a vector each, the scale
 * (float32) and the numbers as multiples of it (int8).
 */
const HEADER_BYTES = 8 + 32;
const STEPS_MAX = 127;

/** Packs vectors of equal length; `texts` are what they were made from, in the same order. */
export function packVectors(texts: readonly string[], vectors: readonly Float32Array[]): Buffer {
  const dimensions = vectors[0]?.length ?? 0;
  const recordBytes = 4 + dimensions;
  const file = Buffer.alloc(HEADER_BYTES + vectors.length * recordBytes);
  file.writeUInt32LE(dimensions, 0);
  file.writeUInt32LE(vectors.length, 4);
  digestOf(texts).copy(file, 8);

  for (const [index, vector] of vectors.entries()) {
    const at = HEADER_BYTES + index * recordBytes;
    const scale = Math.max(...vector.map(Math.abs)) / STEPS_MAX;
    file.writeFloatLE(scale, at);
    for (const [place, value] of vector.entries()) file.writeInt8(Math.round(value / scale), at + 4 + place);
  }
  return file;
}

/**
 * Reads the vector of each text out of a packed file.
 *
 * @throws {Error} when the file was made from other texts.
 */
export function unpackVectors(file: Buffer, texts: readonly string[]): Map<string, Float32Array> {
  if (!file.subarray(8, HEADER_BYTES).equals(digestOf(texts))) {
    throw new Error('the vectors were made from other texts: run node dev/sample/build-vectors.ts');
  }
  const dimensions = file.readUInt32LE(0);
  const recordBytes = 4 + dimensions;

  return new Map(
    texts.map((text, index) => {
      const at = HEADER_BYTES + index * recordBytes;
      const scale = file.readFloatLE(at);
      const vector = Float32Array.from(
        { length: dimensions },
        (_, place) => file.readInt8(at + 4 + place) * scale,
      );
      return [text, vector];
    }),
  );
}

function digestOf(texts: readonly string[]): Buffer {
  return createHash('sha256').update(JSON.stringify(texts)).digest();
}
