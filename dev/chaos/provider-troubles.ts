/** The ways in which the provider goes wrong. */
import type { z } from 'zod';
import type { FaultRule, KeyState } from '../openai-server/settings.ts';

type Rule = z.input<typeof FaultRule>;
type Action = Rule['action'];

/** A share of the calls, so that the work goes on beside the fault. */
const SOME = { probability: 0.4 };
const MANY = { probability: 0.8 };
/** For faults whose verdict is to stop: enough that some run or tenant meets one, too few to stop all of them. */
const FEW = { times: 2 };

const status = (
  code: number,
  more: Partial<Extract<Action, { kind: 'status' }>> = {},
  rule: Partial<Rule> = {},
): Rule => ({
  when: SOME,
  action: { kind: 'status', status: code, ...more },
  ...rule,
});
const spoiled = (action: Action): Rule => ({ when: SOME, action });

/** Every fault that the local provider knows, as a rule that holds while the trouble lasts. */
export const PROVIDER_FAULTS: Readonly<Record<string, Rule>> = {
  'status 500': status(500),
  'status 502': status(502),
  'status 503': status(503, {}, { when: MANY }),
  'status 504': status(504),
  'status 529': status(529),
  'status 408': status(408),
  'status 409': status(409),
  'status 413': status(413),
  'rate limit': status(429, { code: 'rate_limit_exceeded', retryAfterMs: 400 }, { when: MANY }),
  'rate limit without a time': status(429, { code: 'rate_limit_exceeded' }),
  'request too large': status(429, {
    code: 'rate_limit_exceeded',
    message: 'Request too large for this model.',
  }),
  'quota exhausted': status(429, { type: 'insufficient_quota', code: 'insufficient_quota' }, FEW),
  'payment required': status(402, {}, FEW),
  'key refused': status(401, {}, FEW),
  'address refused': status(403, {}, FEW),
  'no such address': status(404, {}, FEW),
  'request refused': status(
    400,
    { message: 'Unrecognized request argument supplied: dimensions' },
    { times: 1 },
  ),
  'input refused': status(400, { message: "'$.input' is invalid." }, { times: 5 }),
  'status 400 of a gateway': { when: SOME, action: { kind: 'html', status: 400 } },
  'html of a gateway': { when: SOME, action: { kind: 'html', status: 502 } },
  'html and status 200': { when: SOME, action: { kind: 'html', status: 200 } },
  'error in a success': spoiled({ kind: 'error_in_200' }),
  redirect: { ...FEW, action: { kind: 'redirect', location: 'http://127.0.0.1:9/v1/embeddings' } },
  reset: { when: SOME, action: { kind: 'reset' } },
  // Each holds a slot until the client gives up after a minute, or the provider goes away.
  hang: { times: 2, action: { kind: 'hang' } },
  slow: { when: MANY, action: { kind: 'delay', delayMs: 2_500 } },
  'very slow': { times: 4, action: { kind: 'delay', delayMs: 11_000 } },
  cut: spoiled({ kind: 'cut' }),
  short: spoiled({ kind: 'short' }),
  long: spoiled({ kind: 'long' }),
  reordered: { when: MANY, action: { kind: 'reordered' } },
  'duplicate index': spoiled({ kind: 'duplicate_index' }),
  'wrong dimensions': spoiled({ kind: 'wrong_dimensions', dimensions: 5 }),
  'one wrong dimension': spoiled({ kind: 'wrong_dimensions', dimensions: 9, item: 0 }),
  'not a number': spoiled({ kind: 'nan', item: 0 }),
  infinite: spoiled({ kind: 'infinite', item: 0 }),
  zeros: spoiled({ kind: 'zeros', item: 0 }),
};

export const FAULT_NAMES: readonly string[] = Object.keys(PROVIDER_FAULTS);

/** Faults of answers that are paid for and cannot be used: that they are paid for again is the provider's doing. */
export const SPOILING: ReadonlySet<string> = new Set([
  'cut',
  'short',
  'long',
  'duplicate_index',
  'wrong_dimensions',
  'nan',
  'infinite',
  'zeros',
]);

export const REFUSED_STATES: readonly KeyState[] = [
  'revoked',
  'quota_exhausted',
  'model_unavailable',
  'ip_refused',
];
