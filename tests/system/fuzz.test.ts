/** Sends what the description of the API allows and what it does not, and answers as no provider should. */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { EmbedError, UnplannedStatus } from '../../src/core/failures.ts';
import { send, setupEmbedder } from '../support/scripted-provider.ts';
import { type System, startSystem } from '../support/system.ts';

/** Without it a few seconds. CI's long part gives it 10. */
// biome-ignore lint/style/noProcessEnv: how long a test takes is asked by who runs it
const MINUTES = Number(process.env.FUZZ_MINUTES ?? 0);
// biome-ignore lint/style/noProcessEnv: to repeat what failed
const SEED = Number(process.env.FUZZ_SEED ?? 1);
const REQUESTS = 300;
const ANSWERS = 150;
const MEMORY_BYTES_MAX = 512 * 2 ** 20;
const STALL_SECONDS_MAX = 0.25;

type Operation = { readonly parameters?: readonly { readonly name: string; readonly in: string }[] };
type Route = { readonly method: string; readonly path: string; readonly query: readonly string[] };

let system: System;
let routes: Route[];

beforeAll(async () => {
  system = await startSystem({ workers: 0 });
  const { body } = await system.call('GET', '/docs/json');
  routes = Object.entries(body.paths as Record<string, Record<string, Operation>>).flatMap(
    ([path, operations]) =>
      Object.entries(operations).map(([method, { parameters = [] }]) => ({
        method: method.toUpperCase(),
        path,
        // It would only make the test wait.
        query: parameters.filter((one) => one.in === 'query' && one.name !== 'wait').map(({ name }) => name),
      })),
  );
});
afterAll(() => system?.close());

const oddText = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.constantFrom(
    '',
    '.',
    '..',
    'notes',
    'default',
    'true',
    '0',
    '-1',
    '1e9',
    '9'.repeat(30),
    'null',
    '\0',
    '%00',
    "'; --",
  ),
  fc.constantFrom(
    '../../etc',
    'a/b',
    'x'.repeat(600),
    '11111111-1111-1111-1111-111111111111',
    '{}',
    '[]',
    '\u202e',
  ),
);
const oddBody = fc.oneof(
  fc.constant(undefined),
  fc.json({ maxDepth: 6 }),
  fc
    .dictionary(
      fc.constantFrom(
        'apiKey',
        'baseUrl',
        'headers',
        'weight',
        'scope',
        'name',
        'hold',
        'target',
        'rowIds',
        'model',
        'monthlyTokens',
      ),
      fc.oneof(oddText, fc.jsonValue()),
    )
    .map((value) => JSON.stringify(value)),
  fc.constantFrom('{', '[', `${'['.repeat(5_000)}${']'.repeat(5_000)}`, '\u0000', '{"__proto__":1}'),
);

/** A request to a route of the description, with values that may or may not be right. */
const hostileRequest = fc.record({
  route: fc.nat(),
  values: fc.array(oddText, { minLength: 3, maxLength: 3 }),
  query: fc.array(fc.tuple(fc.nat(), oddText), { maxLength: 3 }),
  stray: fc.option(fc.tuple(oddText, oddText)),
  body: oddBody,
});

async function ask({
  route: index,
  values,
  query,
  stray,
  body,
}: typeof hostileRequest extends fc.Arbitrary<infer T> ? T : never) {
  const route = routes[index % routes.length] as Route;
  let used = 0;
  const path = route.path.replace(/\{\w+\}/g, () => encoded(values[used++ % values.length] ?? ''));
  const parameters = query.flatMap(([at, value]) => {
    const name = route.query[at % Math.max(1, route.query.length)];
    return name === undefined ? [] : [`${name}=${encoded(value)}`];
  });
  if (stray !== null) parameters.push(`${encoded(stray[0])}=${encoded(stray[1])}`);
  const takesBody = route.method !== 'GET' && route.method !== 'HEAD' && body !== undefined;
  const init = takesBody ? { body, headers: { 'content-type': 'application/json' } } : {};
  // A trial would ask addresses of the internet.
  if (route.path.endsWith('/credential')) parameters.push('check=false');
  const answer = await system.call(route.method, `${path}?${parameters.join('&')}`, init);
  return { said: `${route.method} ${path}?${parameters.join('&')} ${String(body).slice(0, 200)}`, answer };
}

const encoded = (text: string) => encodeURIComponent(text.toWellFormed());

test(
  'no request makes the API fail, stall or grow',
  async () => {
    const endsAt = Date.now() + MINUTES * 60_000;
    let seed = SEED;
    do {
      for (const request of fc.sample(hostileRequest, { numRuns: REQUESTS, seed: seed++ })) {
        const { said, answer } = await ask(request);
        expect(answer.status, said).toBeLessThan(500);
      }
      const { body: metrics } = await system.call('GET', '/metrics');
      expect(figure(metrics, 'process_resident_memory_bytes')).toBeLessThan(MEMORY_BYTES_MAX);
      // A machine that other tests share stalls by itself.
      if (MINUTES > 0)
        expect(figure(metrics, 'nodejs_eventloop_lag_p99_seconds')).toBeLessThan(STALL_SECONDS_MAX);
    } while (Date.now() < endsAt);
  },
  MINUTES * 60_000 + 120_000,
);

function figure(metrics: string, name: string): number {
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(metrics)?.[1]);
}

describe('an answer of a provider', () => {
  const words = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 200 }),
    fc
      .constantFrom('maximum ', 'model ', '1', "'q'", '%00', '\\u0041', '://')
      .map((unit) => unit.repeat(5_000)),
  );
  const vectors = fc.array(
    fc.record({
      index: fc.oneof(fc.nat(3), fc.jsonValue()),
      embedding: fc.oneof(fc.string(), fc.jsonValue()),
    }),
    { maxLength: 4 },
  );
  const hostileAnswer = fc.record({
    status: fc.oneof(fc.integer({ min: 200, max: 599 }), fc.constantFrom(200, 400, 401, 418, 422, 429, 500)),
    body: fc.oneof(
      words,
      fc.json({ maxDepth: 8 }),
      fc.record({ data: vectors, usage: fc.jsonValue() }).map((value) => JSON.stringify(value)),
      fc
        .record({ error: fc.oneof(words, fc.record({ message: words, code: words, type: words })) })
        .map((value) => JSON.stringify(value)),
      fc.constantFrom('[', '{', ' ').map((unit) => unit.repeat(60_000)),
    ),
    retryAfter: fc.oneof(
      fc.constantFrom('1', '-1', '1e99', 'soon', '99999999999'),
      fc.stringMatching(/^[!-~]{1,30}$/),
    ),
  });

  test(
    'is an answer, or a failure with a name, in a moment',
    async () => {
      let next = { status: 200, body: '', retryAfter: '1' };
      const { embed } = await setupEmbedder((response) => {
        send(response, next.status, next.body, { 'retry-after': next.retryAfter });
      });
      const endsAt = Date.now() + MINUTES * 60_000;
      let seed = SEED;
      do {
        for (next of fc.sample(hostileAnswer, { numRuns: ANSWERS, seed: seed++ })) {
          const beganMs = performance.now();
          const outcome: unknown = await embed().catch((error: unknown) => error);
          const isKnown =
            !(outcome instanceof Error) ||
            outcome instanceof EmbedError ||
            outcome instanceof UnplannedStatus;
          expect(isKnown, `${next.status} ${next.body.slice(0, 300)}: ${outcome}`).toBe(true);
          expect(performance.now() - beganMs).toBeLessThan(2_000);
        }
      } while (Date.now() < endsAt);
    },
    MINUTES * 60_000 + 60_000,
  );
});
