import { readFile } from 'node:fs/promises';
import { unpackVectors } from './quantized-vectors.ts';
import { sampleRows } from './rows.ts';

/** Made by `build-vectors.ts`; made again whenever the sample's texts change. */
export const VECTORS_FILE = new URL('./vectors.bin', import.meta.url);

/** Dimensions of the sentence encoder `use`, and so of the sample's column. */
export const SAMPLE_DIMENSIONS = 512;

/** The different texts of the sample's complete rows, in the order of the rows. */
export function completeTexts(): string[] {
  const texts = sampleRows().flatMap((row) => (row.embedded && row.content !== null ? [row.content] : []));
  return [...new Set(texts)];
}

let vectors: Promise<Map<string, Float32Array>> | undefined;

/**
 * Embeds texts of the sample's complete rows as the encoder `use` does, from a file: in milliseconds instead of the
 * 40 s that the encoder takes for them.
 *
 * @throws {Error} for any other text, and when the file is older than the sample's texts.
 */
export async function shippedEmbeddings(texts: readonly string[]): Promise<Float32Array[]> {
  vectors ??= readFile(VECTORS_FILE).then((file) => unpackVectors(file, completeTexts()));
  const known = await vectors;
  return texts.map((text) => {
    const vector = known.get(text);
    if (vector === undefined)
      throw new Error('no vector is shipped for a text that is not of the sample’s complete rows');
    return vector;
  });
}
