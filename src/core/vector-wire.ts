/** How PostgreSQL and pgvector write an array of vectors on the wire, in binary. */

/** int32 dimensions, int32 has-nulls, int32 oid of the elements, int32 length, int32 lower bound. Source: array_recv. */
const ARRAY_HEAD_BYTES = 20;
/** int32 length of the element, int16 dimensions, int16 unused. Source: vector_recv and halfvec_recv of pgvector. */
const ELEMENT_HEAD_BYTES = 8;
const FLOAT_BYTES = { vector: 4, halfvec: 2 } as const;

/** The types of pgvector that Infill writes: floats of 32 bits, or of 16. */
export type VectorType = keyof typeof FLOAT_BYTES;

/** The largest number of 16 bits. A vector with a larger one cannot be a `halfvec`. */
export const HALF_MAX = 65_504;

/** Whether a column of `type` can hold a vector. Numbers that are too fine for it are rounded. */
export function fitsType(vector: Float32Array, type: VectorType): boolean {
  return type === 'vector' || vector.every((value) => Math.abs(value) <= HALF_MAX);
}

/**
 * Writes vectors as the binary form of `vector[]` or `halfvec[]`: big-endian floats, those of the answer.
 *
 * Takes 0.003 ms a vector of 1,536 dimensions (docs/benchmarks.md).
 *
 * @param elementOid oid of `type` in the database that reads it.
 */
export function vectorArrayBytes(
  vectors: readonly Float32Array[],
  elementOid: number,
  type: VectorType = 'vector',
): Buffer {
  const bytesTotal = vectors.reduce(
    (sum, vector) => sum + ELEMENT_HEAD_BYTES + vector.length * FLOAT_BYTES[type],
    ARRAY_HEAD_BYTES,
  );
  const bytes = Buffer.allocUnsafe(bytesTotal);
  let end = bytes.writeInt32BE(1, 0);
  end = bytes.writeInt32BE(0, end);
  end = bytes.writeUInt32BE(elementOid, end);
  end = bytes.writeInt32BE(vectors.length, end);
  end = bytes.writeInt32BE(1, end);
  for (const vector of vectors) {
    const { buffer, byteOffset, byteLength } = type === 'halfvec' ? new Float16Array(vector) : vector;
    const floats = Buffer.from(buffer, byteOffset, byteLength);
    end = bytes.writeInt32BE(ELEMENT_HEAD_BYTES - 4 + floats.length, end);
    end = bytes.writeInt16BE(vector.length, end);
    end = bytes.writeInt16BE(0, end);
    floats.copy(bytes, end);
    const written = bytes.subarray(end, end + floats.length);
    if (type === 'halfvec') written.swap16();
    else written.swap32();
    end += floats.length;
  }
  return bytes;
}
