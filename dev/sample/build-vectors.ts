/**
 * Writes `vectors.bin`: the embeddings of the sample's complete rows by the sentence encoder `use`. Takes a minute. Run
 * `node dev/sample/build-vectors.ts` after any change to the sample's texts; a test notices when it was forgotten.
 */
import { writeFile } from 'node:fs/promises';
import { useEncoder } from '../openai-server/encoders.ts';
import { packVectors } from './quantized-vectors.ts';
import { completeTexts, SAMPLE_DIMENSIONS, VECTORS_FILE } from './shipped-embeddings.ts';

const texts = completeTexts();
console.log(`embedding ${texts.length} texts`);
const vectors = await useEncoder().encode(texts, 'use', SAMPLE_DIMENSIONS);
const file = packVectors(texts, vectors);
await writeFile(VECTORS_FILE, file);
console.log(`wrote ${Math.round(file.length / 1_024)} KiB`);
