/**
 * Reads the bodies of answers: never more than the request can need, and vectors without a copy of the text around them.
 *
 * A tenant's own endpoint may send anything, and a few kilobytes of gzip can hold gigabytes.
 */
import { promisify } from 'node:util';
import { brotliDecompress, gunzip, inflate } from 'node:zlib';
import type { Dispatcher } from 'undici';
import { EmbedError } from '../core/failures.ts';

/** Most bytes that are read of the body of an error. Its words are cut to far less. */
export const ERROR_BYTES_MAX = 64 * 1024;
/** A number of an array, as JSON may write it: `-1.2345678901234567e-10,` */
const BYTES_PER_NUMBER = 25;
const BYTES_AROUND = 64 * 1024;

/** Most bytes that an answer to so many inputs can need, decoded. */
export function answerBytesMax({ inputs, dimensions }: { inputs: number; dimensions: number }): number {
  return inputs * dimensions * BYTES_PER_NUMBER + BYTES_AROUND;
}

/**
 * Reads the body of a success, at most `bytesMax` bytes, compressed or not.
 *
 * @throws {EmbedError} `answer_malformed` for a larger one, or one that cannot be decompressed; the rest of it is not read.
 */
export async function readAnswer(response: Dispatcher.ResponseData, bytesMax: number): Promise<Buffer> {
  const { bytes, isWhole } = await readUpTo(response, bytesMax);
  if (!isWhole) throw new EmbedError('answer_malformed', { status: response.statusCode });
  return decompress(bytes, encodingOf(response), bytesMax).catch(() => {
    throw new EmbedError('answer_malformed', { status: response.statusCode });
  });
}

/** Reads what there is of the body of an error, as text: of one that is too long, or breaks off, the beginning. */
export async function readErrorText(response: Dispatcher.ResponseData): Promise<string> {
  const { bytes } = await readUpTo(response, ERROR_BYTES_MAX);
  const decoded = await decompress(bytes, encodingOf(response), ERROR_BYTES_MAX).catch(() => Buffer.alloc(0));
  return decoded.toString('utf8');
}

type ReadBytes = { readonly bytes: Buffer; readonly isWhole: boolean };

async function readUpTo(
  { body, headers, statusCode }: Dispatcher.ResponseData,
  bytesMax: number,
): Promise<ReadBytes> {
  const isSuccess = statusCode >= 200 && statusCode < 300;
  const announced = Number(headers['content-length'] ?? 0);
  if (announced > bytesMax && isSuccess) {
    body.destroy();
    return { bytes: Buffer.alloc(0), isWhole: false };
  }
  // As large as was announced, so that nothing is to be put together. What was not announced grows.
  let bytes = Buffer.allocUnsafe(announced > 0 ? Math.min(announced, bytesMax) : 16 * 1024);
  let length = 0;
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      const rest = Math.min(chunk.length, bytesMax - length);
      if (length + rest > bytes.length) {
        const grown = Buffer.allocUnsafe(Math.min(bytesMax, Math.max(2 * bytes.length, length + rest)));
        bytes.copy(grown, 0, 0, length);
        bytes = grown;
      }
      chunk.copy(bytes, length, 0, rest);
      length += rest;
      if (rest < chunk.length) return { bytes: bytes.subarray(0, length), isWhole: false };
    }
  } catch (error) {
    // The status of an error tells enough, if the rest of its words does not come.
    if (isSuccess) throw error;
    return { bytes: bytes.subarray(0, length), isWhole: false };
  }
  return { bytes: bytes.subarray(0, length), isWhole: true };
}

const DECOMPRESSORS: Readonly<
  Record<string, (bytes: Buffer, options: { maxOutputLength: number }) => Promise<Buffer>>
> = {
  gzip: promisify(gunzip),
  'x-gzip': promisify(gunzip),
  deflate: promisify(inflate),
  br: promisify(brotliDecompress),
};

function encodingOf({ headers }: Dispatcher.ResponseData): string {
  return String(headers['content-encoding'] ?? 'identity')
    .trim()
    .toLowerCase();
}

/** Nothing compressed is asked for, but some proxies compress all the same. */
async function decompress(bytes: Buffer, encoding: string, maxOutputLength: number): Promise<Buffer> {
  if (encoding === 'identity' || encoding === '') return bytes;
  const decompressor = Object.hasOwn(DECOMPRESSORS, encoding) ? DECOMPRESSORS[encoding] : undefined;
  if (decompressor === undefined) throw new Error(`unknown encoding ${encoding.slice(0, 40)}`);
  return decompressor(bytes, { maxOutputLength });
}

const EMBEDDING_KEY = Buffer.from('"embedding"');
const QUOTE = 0x22;
const COLON = 0x3a;
const FLOAT_BYTES = 4;

/**
 * Parses the JSON of an answer. Vectors in base64 are decoded where they stand, and are `Float32Array`s in the result: parsing
 * them as strings first makes two more copies of each answer, which are garbage a moment later.
 *
 * Only a string that is as long as a vector of `dimensions` is taken for one; anything else stays as JSON has it.
 *
 * @throws {SyntaxError} for what is no JSON.
 */
export function parseAnswer(bytes: Buffer, dimensions: number): unknown {
  const vectors: Float32Array[] = [];
  const base64Length = Math.ceil((dimensions * FLOAT_BYTES) / 3) * 4;
  let skeleton = '';
  let from = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0;
  for (let at = bytes.indexOf(EMBEDDING_KEY, from); at !== -1; at = bytes.indexOf(EMBEDDING_KEY, at)) {
    at = afterColon(bytes, at + EMBEDDING_KEY.length);
    if (bytes[at] !== QUOTE) continue;
    const begin = at + 1;
    const end = bytes.indexOf(QUOTE, begin);
    const length = end - begin;
    if (length > base64Length || length < base64Length - 2) continue;
    const vector = decoded(bytes.toString('latin1', begin, end), dimensions);
    if (vector === undefined) continue;
    // The number stands for the vector, and for no other: whoever sends numbers in place of vectors gains nothing.
    skeleton += bytes.toString('utf8', from, at) + String(vectors.length);
    vectors.push(vector);
    from = end + 1;
    at = from;
  }
  const answer: unknown = JSON.parse(skeleton + bytes.toString('utf8', from));
  return vectors.length === 0 ? answer : withVectors(answer, vectors);
}

function afterColon(bytes: Buffer, at: number): number {
  const next = afterBlanks(bytes, at);
  return bytes[next] === COLON ? afterBlanks(bytes, next + 1) : next;
}

function afterBlanks(bytes: Buffer, from: number): number {
  let at = from;
  while (bytes[at] === 0x20 || bytes[at] === 0x0a || bytes[at] === 0x0d || bytes[at] === 0x09) at++;
  return at;
}

/** Undefined for what is no base64 of so many numbers. */
function decoded(text: string, dimensions: number): Float32Array | undefined {
  const vector = new Float32Array(dimensions);
  if (Buffer.byteLength(text, 'base64') !== vector.byteLength) return undefined;
  const bytes = Buffer.from(vector.buffer).write(text, 'base64');
  return bytes === vector.byteLength ? vector : undefined;
}

/** Puts the vectors in the places of their numbers. A number that stands for none, or comes twice, becomes null: no vector. */
function withVectors(answer: unknown, vectors: readonly Float32Array[]): unknown {
  const items = typeof answer === 'object' && answer !== null && 'data' in answer ? answer.data : undefined;
  if (!Array.isArray(items)) return answer;
  const free: (Float32Array | undefined)[] = [...vectors];
  for (const item of items) {
    if (typeof item !== 'object' || item === null || typeof item.embedding !== 'number') continue;
    const place: number = item.embedding;
    item.embedding = free[place] ?? null;
    free[place] = undefined;
  }
  return answer;
}
