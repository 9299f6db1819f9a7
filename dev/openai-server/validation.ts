/** Judges an embeddings request as the API does, in two steps: its shape first, then what its inputs hold. */
import { type ApiError, invalidInput, invalidRequest, modelNotFound, reworded } from './errors.ts';
import type { Poison } from './settings.ts';

export type Model = {
  readonly dimensionsMax: number;
  /** Whether a request may ask for fewer. */
  readonly dimensionsFree: boolean;
};

/** Source: the API's description of its embedding models. */
export const MODELS: ReadonlyMap<string, Model> = new Map([
  ['text-embedding-3-small', { dimensionsMax: 1_536, dimensionsFree: true }],
  ['text-embedding-3-large', { dimensionsMax: 3_072, dimensionsFree: true }],
  ['text-embedding-ada-002', { dimensionsMax: 1_536, dimensionsFree: false }],
]);

/** Source: the doc comment on EmbeddingCreateParams.input in openai-node 7.57. */
export const INPUTS_MAX = 2_048;
export const INPUT_TOKENS_MAX = 8_192;
export const REQUEST_TOKENS_MAX = 300_000;

export type EmbeddingsRequest = {
  readonly texts: readonly string[];
  readonly model: string;
  readonly dimensions: number;
  readonly encodingFormat: 'float' | 'base64';
};

const PARAMETERS: ReadonlySet<string> = new Set(['model', 'input', 'dimensions', 'encoding_format', 'user']);

/** The inputs and the model of a body, as far as they can be made out: for the ledger and the faults, whatever is wrong besides. */
export function peek(body: unknown): { readonly model: string | null; readonly texts: readonly string[] } {
  const { model, input } = asRecord(body) ?? {};
  const inputs = Array.isArray(input) ? input : [input];
  return {
    model: typeof model === 'string' ? model : null,
    texts: inputs.filter((text) => typeof text === 'string'),
  };
}

/** `encoderDimensionsMax` is the most that the server's encoder can give, null for any number. */
export function readRequest(
  body: unknown,
  encoderDimensionsMax: number | null,
): { readonly request: EmbeddingsRequest } | { readonly error: ApiError } {
  const fields = asRecord(body);
  if (fields === null) {
    return {
      error: invalidRequest(
        'We could not parse the JSON body of your request. The API expects a JSON object.',
      ),
    };
  }
  const unknown = Object.keys(fields).find((name) => !PARAMETERS.has(name));
  if (unknown !== undefined) {
    return { error: invalidRequest(`Unknown parameter: '${unknown}'.`, unknown, 'unknown_parameter') };
  }
  const { model, input, encoding_format: format = 'float' } = fields;
  if (typeof model !== 'string' || model === '') {
    return { error: invalidRequest('you must provide a model parameter') };
  }
  const known = MODELS.get(model);
  if (!known) return { error: modelNotFound(model) };

  const inputError = errorOfInput(input);
  if (inputError) return { error: inputError };
  if (format !== 'float' && format !== 'base64') {
    const message = `Invalid value: '${String(format)}'. Supported values are: 'float' and 'base64'.`;
    return { error: invalidRequest(message, 'encoding_format', 'invalid_value') };
  }
  const dimensionsError = errorOfDimensions(fields.dimensions, known, encoderDimensionsMax);
  if (dimensionsError) return { error: dimensionsError };

  const dimensionsMax = Math.min(known.dimensionsMax, encoderDimensionsMax ?? known.dimensionsMax);
  const dimensions = typeof fields.dimensions === 'number' ? fields.dimensions : dimensionsMax;
  const texts: readonly string[] = Array.isArray(input) ? input : [input];
  return { request: { texts, model, dimensions, encodingFormat: format } };
}

/** What makes the API refuse a request whose shape is right; null when nothing does. */
export function errorOfContent(
  texts: readonly string[],
  tokens: readonly number[],
  poisons: readonly Poison[],
): ApiError | null {
  if (texts.includes('')) return invalidInput();

  const tooLong = tokens.find((count) => count > INPUT_TOKENS_MAX);
  if (tooLong !== undefined) {
    return invalidRequest(
      `This model's maximum context length is ${INPUT_TOKENS_MAX} tokens, however you requested ${tooLong} tokens (${tooLong} in your prompt; 0 for the completion). Please reduce your prompt; or completion length.`,
    );
  }
  const total = tokens.reduce((sum, count) => sum + count, 0);
  if (total > REQUEST_TOKENS_MAX) {
    const message = `Requested ${total} tokens, max ${REQUEST_TOKENS_MAX} tokens per request`;
    return { ...invalidRequest(message, null, 'max_tokens_per_request'), type: 'max_tokens_per_request' };
  }
  const poison = poisons.find(({ marker }) => texts.some((text) => text.includes(marker)));
  if (!poison) return null;
  const { marker: _marker, ...given } = poison;
  return reworded(invalidInput(), given);
}

function errorOfInput(input: unknown): ApiError | null {
  if (typeof input === 'string') return null;
  if (!Array.isArray(input) || input.length === 0) return invalidInput();
  if (input.every((text) => typeof text === 'string')) {
    if (input.length <= INPUTS_MAX) return null;
    return invalidRequest(
      `Invalid 'input': array too long. Expected an array with maximum length ${INPUTS_MAX}, but got an array with length ${input.length} instead.`,
      'input',
      'array_above_max_length',
    );
  }
  const ofTokens = input.every((part) => typeof part === 'number' || Array.isArray(part));
  if (!ofTokens) return invalidInput();
  return invalidRequest(
    'This server takes texts only; arrays of tokens are not supported.',
    'input',
    'unsupported_value',
  );
}

function errorOfDimensions(
  dimensions: unknown,
  model: Model,
  encoderDimensionsMax: number | null,
): ApiError | null {
  if (dimensions === undefined) return null;
  if (!model.dimensionsFree) return invalidRequest('This model does not support specifying dimensions.');
  if (typeof dimensions !== 'number' || !Number.isInteger(dimensions)) {
    const message = `Invalid type for 'dimensions': expected an integer, but got ${JSON.stringify(dimensions)} instead.`;
    return invalidRequest(message, 'dimensions', 'invalid_type');
  }
  const dimensionsMax = Math.min(model.dimensionsMax, encoderDimensionsMax ?? model.dimensionsMax);
  if (dimensions >= 1 && dimensions <= dimensionsMax) return null;
  const bound = dimensions < 1 ? 'greater than or equal to 1' : `less than or equal to ${dimensionsMax}`;
  return invalidRequest(`Invalid value for 'dimensions' = ${dimensions}. Must be ${bound}.`);
}

function asRecord(value: unknown): Record<string, unknown> | null {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
  return value as Record<string, unknown>;
}
