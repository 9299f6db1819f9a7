/** What servers want of a request, and how they write a right answer; `docs/compatibility.md` has the same list. */
import { error, ROWS, type ServerKind } from './server-kind.ts';

export const SERVER_FORMS: readonly ServerKind[] = [
  { kind: 'OpenAI', habits: {}, callsMax: 1 },
  { kind: 'base64 ignored: an array of numbers', habits: { base64: 'ignores' }, callsMax: 1 },
  {
    kind: 'base64 refused with a 400 that names it',
    habits: { base64: { status: 400, body: error("'encoding_format' must be float") } },
    callsMax: 2,
  },
  {
    kind: 'base64 refused with a 422 as a field that is not permitted',
    habits: {
      base64: {
        status: 422,
        body: {
          detail: [
            {
              type: 'extra_forbidden',
              loc: ['body', 'encoding_format'],
              msg: 'Extra inputs are not permitted',
            },
          ],
        },
      },
    },
    callsMax: 2,
  },
  {
    kind: 'base64 refused with a 400 that does not say why',
    habits: {
      base64: {
        status: 400,
        body: { code: 20015, message: 'The parameter is invalid. Please check again.' },
      },
    },
    callsMax: 8,
  },
  {
    kind: 'base64 refused with a 500 that does not say why',
    habits: { base64: { status: 500, body: error('Internal Server Error') } },
    callsMax: 8,
  },
  { kind: '`index` missing everywhere', habits: { base64: 'ignores', index: 'missing' }, callsMax: 1 },
  {
    kind: '`index` missing on the first item',
    habits: { base64: 'ignores', index: 'first_missing' },
    callsMax: 1,
  },
  { kind: '`index` as a string', habits: { index: 'string' }, callsMax: 1 },
  { kind: '`index` 0 on every item', habits: { index: 'zero' }, callsMax: ROWS + 20 },
  { kind: 'JSON without a content type', habits: { contentType: null }, callsMax: 1 },
  { kind: 'JSON as `text/plain`', habits: { contentType: 'text/plain; charset=utf-8' }, callsMax: 1 },
  { kind: 'JSON as `text/html`', habits: { contentType: 'text/html' }, callsMax: 1 },
  { kind: 'no `usage`', habits: { usage: null }, callsMax: 1 },
  {
    kind: 'at most 32 inputs, a number in the words (TEI)',
    habits: {
      inputsMax: {
        max: 32,
        status: 413,
        body: { error: 'batch size 40 > maximum allowed batch size 32', error_type: 'Validation' },
      },
    },
    callsMax: 3,
  },
  {
    kind: 'at most 10 inputs, a number in the words (DashScope)',
    habits: {
      inputsMax: {
        max: 10,
        status: 400,
        body: error(
          '<400> InternalError.Algo.InvalidParameter: Value error, batch size is invalid, it should not be larger than 10.: input.contents',
        ),
      },
    },
    callsMax: 5,
  },
  {
    kind: 'at most 16 inputs, a number in the words (Azure)',
    habits: {
      inputsMax: {
        max: 16,
        status: 400,
        body: error(
          'Too many inputs. The max number of inputs is 16. We hope to increase the number of inputs per request soon.',
        ),
      },
    },
    callsMax: 4,
  },
  {
    kind: 'at most 20 inputs, a number in the words (pydantic)',
    habits: {
      inputsMax: {
        max: 20,
        status: 422,
        body: {
          detail: [
            { loc: ['body', 'input'], msg: 'List should have at most 20 items after validation, not 40' },
          ],
        },
      },
    },
    callsMax: 3,
  },
  {
    kind: 'at most 5 inputs, a number in the words (Vertex)',
    habits: {
      inputsMax: { max: 5, status: 400, body: error('5 instance(s) is allowed per prediction. Actual: 40.') },
    },
    callsMax: 9,
  },
  {
    kind: 'one input a request, in words',
    habits: { inputsMax: { max: 1, status: 400, body: error('Only one input is supported.') } },
    callsMax: ROWS + 1,
  },
  {
    kind: 'one input a request, and no word about it',
    habits: { inputsMax: { max: 1, status: 400, body: error('Bad Request') } },
    callsMax: ROWS + 8,
  },
  {
    kind: 'at most 7 inputs, and no word about it',
    habits: { inputsMax: { max: 7, status: 422, body: error('Unprocessable') } },
    callsMax: ROWS + 8,
  },
  {
    kind: 'a 500 above 8 inputs (llama.cpp)',
    habits: { inputsMax: { max: 8, status: 500, body: error('llama_decode returned -1') } },
    callsMax: ROWS + 8,
  },
  { kind: 'fewer vectors than inputs above 8', habits: { vectorsMax: 8 }, callsMax: ROWS + 8 },
  {
    kind: "the key in the header `api-key` (Azure's classic keys)",
    habits: { needsHeader: ['api-key', 'sk-azure-key-of-a-tenant'] },
    credential: { apiKey: 'sk-azure-key-of-a-tenant', apiKeyHeader: 'API-Key' },
    callsMax: 1,
  },
  {
    kind: 'a header of a gateway beside the key (`Ocp-Apim-Subscription-Key`, `cf-aig-authorization`)',
    habits: { needsHeader: ['ocp-apim-subscription-key', 'planted-subscription-key'] },
    credential: { headers: { 'Ocp-Apim-Subscription-Key': 'planted-subscription-key' } },
    callsMax: 1,
  },
  {
    kind: 'a query in the base URL (`?api-version=2024-10-21`)',
    habits: { needsQuery: 'api-version=2024-10-21' },
    query: '?api-version=2024-10-21',
    callsMax: 1,
  },
  {
    kind: 'a name of its own for the model (a deployment)',
    habits: { needsModel: 'my-deployment' },
    credential: { model: 'my-deployment' },
    callsMax: 1,
  },
];
