/** What servers refuse and fail with; `docs/compatibility.md` has the same list. */
import { error, ROWS, type ServerKind, withEveryFifth } from './server-kind.ts';

export const SERVER_TROUBLES: readonly ServerKind[] = [
  {
    kind: 'a 500 for a row of its own (NaN)',
    habits: {
      rows: [
        {
          marker: 'odd',
          status: 500,
          body: error('failed to encode response: json: unsupported value: NaN'),
        },
      ],
    },
    texts: withEveryFifth('odd'),
    quarantined: { marker: 'odd', words: /unsupported value: NaN/ },
    callsMax: 3 * ROWS + 20,
  },
  {
    kind: 'a 500 for a row that is too long for the server',
    habits: {
      rows: [
        {
          marker: 'odd',
          status: 500,
          body: error('input is too large to process. increase the physical batch size'),
        },
      ],
    },
    texts: withEveryFifth('odd'),
    quarantined: { marker: 'odd', words: /too large to process/ },
    callsMax: 3 * ROWS + 20,
  },
  {
    kind: 'an unexplained 400 for one row',
    habits: {
      rows: [
        {
          marker: 'odd',
          status: 400,
          body: { code: 20015, message: 'The parameter is invalid. Please check again.', data: null },
        },
      ],
    },
    texts: ['a note', 'an odd note', ...Array.from({ length: 10 }, (_, index) => `note ${index}`)],
    quarantined: { marker: 'odd', words: /The parameter is invalid/ },
    callsMax: 16,
  },
  {
    kind: 'an unexplained 400 for every row but not for a plain word',
    habits: { rows: [{ marker: 'note', status: 400, body: error('Bad Request') }] },
    texts: ['note 1', 'note 2', 'note 3'],
    quarantined: { marker: 'note', words: /Bad Request/ },
    callsMax: 12,
  },
  {
    kind: 'a 400 for everything',
    habits: { always: { status: 400, body: error('unknown field: input') } },
    stops: /request_invalid.*The provider said: unknown field: input/,
    callsMax: 12,
  },
  {
    kind: 'NaN in the vector of one row',
    habits: { base64: 'ignores', spoils: { marker: 'odd', embedding: [1, null, 1, 1, 1, 1, 1, 1] } },
    texts: ['a note', 'an odd note', 'another note'],
    failed: { marker: 'odd', code: 'answer_not_finite' },
  },
  {
    kind: 'no vector for anything, with a 200',
    habits: {
      always: {
        status: 200,
        body: { object: 'list', data: [{ object: 'embedding', index: 0, embedding: null }] },
      },
    },
    stops: /provider_unusable/,
    callsMax: 20,
  },
  {
    kind: '`dimensions` refused with a 400',
    habits: {
      dimensions: {
        status: 400,
        body: error(
          'This model does not support matryoshka representation, changing output dimensions will lead to poor results.',
        ),
      },
    },
    callsMax: 2,
  },
  {
    kind: '`dimensions` refused with a 500',
    habits: {
      dimensions: {
        status: 500,
        body: error('litellm.UnsupportedParamsError: Setting dimensions is not supported for this provider'),
      },
    },
    callsMax: 2,
  },
  {
    kind: 'vectors of another length than the column',
    habits: { dimensions: 'ignores', nativeDimensions: 5 },
    stops: /model_wrong_dimensions/,
    callsMax: 8,
  },
  {
    kind: 'a 200 with an error that passes',
    habits: {
      atFirst: {
        times: 2,
        status: 200,
        body: error('Provider returned error: upstream is overloaded, try again', { code: 403 }),
      },
    },
  },
  {
    kind: 'a 200 with a code and words beside it (SiliconFlow)',
    habits: {
      atFirst: {
        times: 2,
        status: 200,
        body: { code: 50508, message: 'System is too busy now. Please try again later.', data: null },
      },
    },
  },
  {
    kind: 'a rate limit of its own words in a 200',
    habits: {
      atFirst: { times: 1, status: 200, body: error('Rate limit reached, please retry in 1 second') },
    },
  },
  {
    kind: "an endpoint that refuses, in the tenant's reason",
    habits: { always: { status: 404, body: error('No route matched with those values') } },
    stops: /endpoint_missing.*No route matched/,
    callsMax: 4,
  },
];
