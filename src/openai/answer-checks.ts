import assert from 'node:assert/strict';
import { endianness } from 'node:os';
import { EmbedError, type EmbedErrorDetails, type FailureCode } from '../core/failures.ts';

// Base64 vectors are little-endian floats, and they are read into memory as they are.
assert(endianness() === 'LE', 'Infill reads vectors on little-endian machines only');

export type CheckedAnswer = {
  /** One vector an input, in the order of the inputs. */
  readonly vectors: readonly Float32Array[];
  /** What the provider bills; 0 if it does not say. */
  readonly tokens: number;
};

export type Expected = { readonly inputs: number; readonly dimensions: number };

const BYTES_PER_NUMBER = 4;

/**
 * Checks a parsed answer and brings its vectors into the order of the inputs.
 *
 * All or nothing: one wrong vector refuses the whole answer, since a provider that errs in one place is not to be believed
 * in another. `details` go into the error.
 *
 * @throws {EmbedError} one of the `answer_...` failures.
 */
export function checkAnswer(
  body: unknown,
  expected: Expected,
  details: EmbedErrorDetails = {},
): CheckedAnswer {
  const refuse = (code: FailureCode): never => {
    throw new EmbedError(code, details);
  };

  const items = field(body, 'data');
  if (!Array.isArray(items)) return refuse('answer_malformed');
  if (items.length !== expected.inputs) return refuse('answer_wrong_count');

  const indexes = indexesOf(items);
  const vectors = new Array<Float32Array | undefined>(expected.inputs).fill(undefined);
  for (const [position, item] of items.entries()) {
    const index = indexes[position] ?? Number.NaN;
    if (!Number.isInteger(index) || index < 0 || index >= expected.inputs) return refuse('answer_malformed');
    if (vectors[index] !== undefined) return refuse('answer_duplicate_index');

    const vector = vectorOf(field(item, 'embedding'), expected.dimensions);
    if (typeof vector === 'string') return refuse(vector);
    vectors[index] = vector;
  }

  // As many vectors as inputs, and no index twice: each input has one.
  return { vectors: vectors.filter((vector) => vector !== undefined), tokens: tokensOf(body) };
}

/**
 * The place of each item: what it says, as a number or in digits; NaN for what is neither.
 *
 * Without any index the order of the answer counts. Some servers leave out fields of the value 0, so one item without an index
 * among others that have one is the first; two would claim its place, and are refused as such.
 */
function indexesOf(items: readonly unknown[]): readonly number[] {
  const given = items.map((item) => field(item, 'index') ?? undefined);
  if (given.every((index) => index === undefined)) return items.map((_item, position) => position);
  const isFirstNamed = given.some((index) => index === 0 || index === '0');
  return given.map((index) => {
    if (index === undefined) return isFirstNamed ? Number.NaN : 0;
    if (typeof index === 'string' && /^\d{1,6}$/.test(index)) return Number(index);
    return typeof index === 'number' ? index : Number.NaN;
  });
}

/** Reads a vector that was decoded already, as base64, or as an array of numbers, or names what is wrong with it. */
function vectorOf(embedding: unknown, dimensions: number): Float32Array | FailureCode {
  const vector =
    embedding instanceof Float32Array
      ? ofLength(embedding, dimensions)
      : typeof embedding === 'string'
        ? fromBase64(embedding, dimensions)
        : fromArray(embedding, dimensions);
  return typeof vector === 'string' ? vector : (flawOf(vector) ?? vector);
}

/** Decodes straight into the vector's memory: an array of numbers in between costs more than twice the time. */
function fromBase64(text: string, dimensions: number): Float32Array | FailureCode {
  if (Buffer.byteLength(text, 'base64') !== dimensions * BYTES_PER_NUMBER) return 'answer_wrong_dimensions';
  const vector = new Float32Array(dimensions);
  const bytes = Buffer.from(vector.buffer).write(text, 'base64');
  return bytes === vector.byteLength ? vector : 'answer_malformed';
}

function ofLength(vector: Float32Array, dimensions: number): Float32Array | FailureCode {
  return vector.length === dimensions ? vector : 'answer_wrong_dimensions';
}

function fromArray(values: unknown, dimensions: number): Float32Array | FailureCode {
  if (!Array.isArray(values)) return 'answer_malformed';
  if (values.length !== dimensions) return 'answer_wrong_dimensions';
  // JSON has no NaN: servers write null instead.
  if (!values.every((value) => typeof value === 'number')) return 'answer_not_finite';
  return Float32Array.from(values);
}

function flawOf(vector: Float32Array): FailureCode | undefined {
  let zero = true;
  // By index: going through the iterator takes four times as long, and every number that is ever stored passes here.
  for (let index = 0; index < vector.length; index++) {
    const value = vector[index];
    if (!Number.isFinite(value)) return 'answer_not_finite';
    if (value !== 0) zero = false;
  }
  return zero ? 'answer_all_zero' : undefined;
}

function tokensOf(body: unknown): number {
  const usage = field(body, 'usage');
  const tokens = field(usage, 'total_tokens') ?? field(usage, 'prompt_tokens');
  return typeof tokens === 'number' && Number.isSafeInteger(tokens) && tokens > 0 ? tokens : 0;
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && name in value
    ? (value as Record<string, unknown>)[name]
    : undefined;
}
