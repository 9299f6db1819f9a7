/** One request to the provider: at its pace, with its outcome reported to the account. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Credential } from '../core/credential.ts';
import { EmbedError } from '../core/failures.ts';
import type { EmbedAnswer, EmbedRequest } from '../openai/embedder.ts';
import type { Reservation, Wait } from '../pacing/pacer.ts';
import { pause, reserveSoon, SLEEP_MS_MAX } from '../pacing/wait.ts';
import type { BatchDeps } from './deps.ts';
import { inSlot } from './in-slot.ts';
import { isUnusable, isWordUsable, probe } from './neutral-word.ts';
import { heard, isProviderFailure, noteFailure, send } from './send-request.ts';

export type Call = {
  readonly credential: Credential;
  readonly model: string;
  readonly dimensions: number;
  readonly sendDimensions?: EmbedRequest['sendDimensions'];
  readonly fields?: EmbedRequest['fields'];
  /** The batch's job, for the log. */
  readonly jobId: string;
  /**
   * Names the work to the pacer, so that it keeps its place in the line. The same in each generation of the run: a batch that is
   * planned anew takes over the place that was left.
   */
  readonly waiter: string;
  /** Names the key within the run, for the gate that tries it first. */
  readonly keyName: string;
  /** Whose key it is, for the record of its health. */
  readonly tenantId: string;
  readonly signal: AbortSignal;
  /** Called for each request that goes out, whatever becomes of it. */
  readonly onRequest: () => void;
  /** Asked before the work is taken up again, after a 429 or a wait. Throws what ends it when nobody wants it any more. */
  readonly assertWanted: () => Promise<void>;
  /** Whether other requests of the work were answered a moment ago: then what fails does so by itself, and no word is sent. */
  readonly othersPass?: () => boolean;
  /** Whether a wait is to be sat out here, since what was found out so far would be lost with the slot. */
  readonly sitsOut: (waitMs: number) => boolean;
};

/**
 * Embeds texts as soon as the account's limits allow.
 *
 * A failure of the provider is put to the test before it counts against the work: a neutral word is sent, and only if that
 * is answered was the work to blame. Of a server that reports no usage the answer's tokens are our estimate.
 *
 * @throws {EmbedError} of any code. `paced`, `rate_limited` and `account_paused` say when to come again.
 * @throws what `assertWanted` throws.
 */
export async function callProvider(
  deps: BatchDeps,
  call: Call,
  texts: readonly string[],
  bytes: number,
): Promise<EmbedAnswer> {
  return inSlot(deps, call, (counted) => callAtPace(deps, counted, texts, bytes));
}

async function callAtPace(
  deps: BatchDeps,
  call: Call,
  texts: readonly string[],
  bytes: number,
): Promise<EmbedAnswer> {
  for (let round = 1; ; round++) {
    if (round > 1) await call.assertWanted();
    // Found out while this request waited for its turn, or for whoever tried the key first.
    const inputsMax = deps.embedder.inputsMaxOf?.(call.credential, call) ?? Number.POSITIVE_INFINITY;
    if (texts.length > inputsMax) throw new EmbedError('request_too_large', { inputsMax });
    const place = await reserveSoon(
      deps.pacer,
      call.credential,
      call.model,
      { inputs: texts.length, bytes, waiter: call.waiter },
      call.signal,
    );
    if (!place.go) {
      await onWait(deps, call, place);
      continue;
    }
    const trial = deps.keyGate.trialOf(call.keyName);
    if (trial !== undefined) {
      // A place kept through somebody else's trial would be used in another minute than the one it was taken in.
      await deps.pacer.released(place);
      await onTrial(call, trial);
      continue;
    }
    const again = await sendAt(deps, call, place, texts);
    if (again !== 'again') return again;
  }
}

/** Sends at a place in the line, and says to the account what came of it. */
async function sendAt(
  deps: BatchDeps,
  call: Call,
  place: Reservation,
  texts: readonly string[],
): Promise<EmbedAnswer | 'again'> {
  let isSent = false;
  const onRequest = () => {
    isSent = true;
    call.onRequest();
  };
  try {
    const answer = believable(await send(deps, { ...call, onRequest }, texts), texts);
    await briefly(deps, deps.pacer.settled(place, heard(answer)));
    return answer.tokens > 0 ? answer : { ...answer, tokens: place.taken.tokens };
  } catch (error) {
    if (isSent && (await onFailure(deps, call, place, error))) return 'again';
    // A key that is known to be dead is not sent, and so says nothing of the provider. Another tenant may have found it out.
    if (!isSent) await noteFailure(deps, call, error);
    throw error;
  } finally {
    await deps.pacer.released(place);
  }
}

/** What a server may add to an input by itself, such as marks of begin and end. */
const ADDED_TOKENS_MAX = 16;

/**
 * An answer that claims no more tokens than its texts can have: no token is less than a byte. A server that claims more, by
 * mistake or not, would end a run with a cap, and hold up its account.
 */
function believable(answer: EmbedAnswer, texts: readonly string[]): EmbedAnswer {
  const tokensMax = texts.reduce((sum, text) => sum + Buffer.byteLength(text) + ADDED_TOKENS_MAX, 0);
  return answer.tokens <= tokensMax ? answer : { ...answer, tokens: tokensMax };
}

/** Longest that a slot waits for another batch to find out whether a key works. */
const TRIAL_MS_MAX = 5_000;
/** How long a batch then stays away. */
const TRIAL_SNOOZE_MS = 5_000;

/**
 * Waits for the first call with a key, but not for long: the slot may serve another tenant.
 *
 * @throws {EmbedError} `account_paused` when that call failed by the provider's fault, `paced` when it takes its time: those who
 *   wait do not try it one after the other.
 */
async function onTrial(call: Call, trial: Promise<unknown>): Promise<void> {
  const end = await Promise.race([
    trial.then(
      () => 'ended',
      (error: unknown) => (isProviderFailure(error) ? 'failed' : 'ended'),
    ),
    pause(TRIAL_MS_MAX, call.signal).then(() => 'slow'),
  ]);
  if (end === 'ended' || (end === 'slow' && call.sitsOut(TRIAL_MS_MAX))) return;
  throw new EmbedError(end === 'failed' ? 'account_paused' : 'paced', { retryAfterMs: TRIAL_SNOOZE_MS });
}

/** Longest that an answer waits for Redis to hear of it. */
const TELL_MS_MAX = 1_000;

/** Waits for the pacer, but not for long: what is paid for has to reach Postgres, also while Redis is away. */
async function briefly(deps: BatchDeps, told: Promise<void>): Promise<void> {
  const logged = told.catch((error: unknown) => deps.log.warn({ err: error }, 'pacer_not_told'));
  await Promise.race([logged, sleep(TELL_MS_MAX)]);
}

/** Who is sent away for longer than this comes so seldom to the same point that it does not matter to begin anew. */
const COOLDOWN_MS_MAX = 10 * 60_000;
/** So soon somebody who sits a wait out finds out that his run has stopped. */
const SIT_OUT_LOOK_MS = 2_000;

/** @throws {EmbedError} unless it was our turn to probe, and the provider is well, or the wait was sat out. */
async function onWait(deps: BatchDeps, call: Call, wait: Wait): Promise<void> {
  if (wait.because === 'probe') return void (await probe(deps, call, wait.waitMs));
  const isDown = wait.because === 'breaker' || wait.because === 'probe_in_flight';
  const isShort = wait.because !== 'cooldown' || wait.waitMs <= COOLDOWN_MS_MAX;
  if (!isDown && isShort && call.sitsOut(wait.waitMs))
    return pause(Math.min(wait.waitMs, SIT_OUT_LOOK_MS), call.signal);
  throw new EmbedError(isDown ? 'account_paused' : 'paced', { retryAfterMs: wait.waitMs });
}

/**
 * Reports a failed request to the account and says whether to ask for a place again at once.
 *
 * @throws {EmbedError} `account_paused` when the provider is to blame: the work then loses no attempt.
 */
async function onFailure(deps: BatchDeps, call: Call, place: Reservation, error: unknown): Promise<boolean> {
  if (!(error instanceof EmbedError) || error.code === 'shutting_down') return false;
  const { code, status, providerCode, providerMessage, requestId } = error;
  deps.log.warn(
    { batch: call.jobId, code, status, providerCode, providerMessage, requestId },
    'request_failed',
  );
  await noteFailure(deps, call, error);
  const limits = error.limits ?? NO_LIMITS;
  if (error.again) {
    await deps.pacer.settled(place, { tokens: null, limits, organization: null });
    return true;
  }
  if (error.code === 'rate_limited') return onRateLimit(deps, call, place, error);
  const isSure = call.othersPass?.() ?? false;
  if (isProviderFailure(error) && !(isSure && error.status !== undefined)) {
    const { next, waitMs } = await deps.pacer.failed(place);
    if (next === 'wait') throw new EmbedError('account_paused', { ...error, retryAfterMs: waitMs });
    const word = await probe(deps, call, waitMs);
    if (word === 'changed') return true;
    throw word === 'answered' ? withOthersPassing(error) : error;
  }
  await deps.pacer.settled(place, { tokens: null, limits, organization: null });
  if (isSure) throw withOthersPassing(error);
  if (isUnusable(error) && (await isWordUsable(deps, call))) throw withOthersPassing(error);
  return false;
}

function withOthersPassing(error: EmbedError): EmbedError {
  return error.verdict === 'retry' ? new EmbedError(error.code, { ...error, othersPass: true }) : error;
}

/** A longer wait is not believed: the account is asked again after this time, by a request that waits for it anyway. */
const RATE_LIMIT_MS_MAX = 10 * 60_000;
/** A limit that lets nothing through for longer than a day is none that passes. */
const RATE_LIMIT_ROUNDS_MAX = 100;
const RATE_LIMIT_ENDLESS_MS = 26 * 3_600_000;

/** @throws {EmbedError} unless the wait is short enough to ask for a place again at once. */
async function onRateLimit(
  deps: BatchDeps,
  call: Call,
  place: Reservation,
  error: EmbedError,
): Promise<boolean> {
  const { rounds, forMs } = deps.keyGate.noteTrouble(call.keyName, 'rate_limited');
  const told = error.retryAfterMs;
  const retryAfterMs = told === undefined ? undefined : Math.min(told, RATE_LIMIT_MS_MAX);
  await deps.pacer.refused(place, { retryAfterMs: retryAfterMs ?? null, limits: error.limits ?? NO_LIMITS });
  if (rounds > RATE_LIMIT_ROUNDS_MAX && forMs > RATE_LIMIT_ENDLESS_MS)
    throw new EmbedError('provider_unusable', error);
  const waitMs = retryAfterMs ?? 0;
  if (waitMs <= SLEEP_MS_MAX || call.sitsOut(waitMs)) return true;
  throw new EmbedError('rate_limited', { ...error, retryAfterMs });
}

const NO_LIMITS = {
  requestsLimit: null,
  requestsRemaining: null,
  requestsResetMs: null,
  tokensLimit: null,
  tokensRemaining: null,
  tokensResetMs: null,
} as const;
