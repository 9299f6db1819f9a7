/** Servers that nobody has seen yet: habits drawn at random, with what must come of them. */
import fc from 'fast-check';
import type { Habits, OddReply } from '../../dev/openai-server/odd-servers.ts';

export type InventedServer = {
  readonly habits: Habits;
  readonly rows: number;
  /** Every so many-th row holds the marker that the server refuses. 0: none. */
  readonly badEvery: number;
};

export const MARKER = 'cursed';

const error = (message: string) => ({ error: { message } });
const orAbsent = <Value>(value: fc.Arbitrary<Value>) => fc.option(value, { nil: undefined, freq: 1 });
const reply = (statuses: readonly number[], bodies: readonly unknown[]): fc.Arbitrary<OddReply> =>
  fc.record({ status: fc.constantFrom(...statuses), body: fc.constantFrom(...bodies) });

const UNEXPLAINED = [
  error('Bad Request'),
  { code: 20015, message: 'The parameter is invalid.' },
  { detail: 'Unprocessable' },
  '',
];

const base64: fc.Arbitrary<Habits['base64']> = fc.oneof(
  fc.constantFrom('takes' as const, 'ignores' as const),
  reply(
    [400, 422],
    [error('encoding_format is not supported'), { detail: 'Extra inputs are not permitted' }, ...UNEXPLAINED],
  ),
  reply([500], [error('base64 is not implemented'), error('Internal Server Error')]),
);

const inputsMax: fc.Arbitrary<Habits['inputsMax']> = fc
  .record({
    max: fc.integer({ min: 1, max: 50 }),
    status: fc.constantFrom(400, 413, 422, 500),
    words: fc.constantFrom(
      (max: number) => error(`at most ${max} inputs can be in one batch`),
      (max: number) => error(`batch size is invalid, it should not be larger than ${max}.`),
      (max: number) => ({ detail: [{ msg: `List should have at most ${max} items after validation` }] }),
      () => error('llama_decode returned -1'),
      () => error('Bad Request'),
      () => error('Too many inputs'),
    ),
  })
  .map(({ max, status, words }) => ({ max, status, body: words(max) }));

const row: fc.Arbitrary<OddReply> = fc.oneof(
  reply([400, 422], [error('the input is not allowed'), ...UNEXPLAINED]),
  reply(
    [500],
    [
      error('failed to encode response: json: unsupported value: NaN'),
      error('input is too large to process'),
    ],
  ),
);

const passing: fc.Arbitrary<OddReply> = fc.oneof(
  reply([500, 502, 503, 529], [error('Internal Server Error'), '<html>gateway</html>', '']),
  reply(
    [200],
    [error('upstream is overloaded, try again'), { code: 50508, message: 'System is too busy now.' }],
  ),
  reply([429], [error('Rate limit reached')]).map((one) => ({ ...one, headers: { 'retry-after-ms': '20' } })),
);

export const inventedServer: fc.Arbitrary<InventedServer> = fc.record({
  habits: fc.record(
    {
      base64,
      index: fc.constantFrom('right', 'missing', 'first_missing', 'string', 'zero'),
      contentType: fc.constantFrom(null, 'application/json', 'text/plain', 'text/html'),
      dimensions: orAbsent(
        reply([400, 422, 500], [error('dimensions is not supported'), ...UNEXPLAINED.slice(0, 2)]),
      ),
      inputsMax,
      vectorsMax: fc.integer({ min: 1, max: 50 }),
      rows: row.map((one) => [{ marker: MARKER, ...one }]),
      atFirst: passing.chain((one) => fc.integer({ min: 1, max: 3 }).map((times) => ({ times, ...one }))),
      // No 429: how an account is paced that refuses again and again is not what this is about.
      sometimes: passing
        .filter(({ status }) => status !== 429)
        .chain((one) => fc.integer({ min: 5, max: 9 }).map((every) => ({ every, ...one }))),
      usage: fc.constant(null),
    },
    { requiredKeys: [] },
  ) as fc.Arbitrary<Habits>,
  rows: fc.integer({ min: 1, max: 60 }),
  badEvery: fc.constantFrom(0, 2, 5, 20),
});
