/** One request to the provider: at its pace, with its outcome reported to the account. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Credential } from '../core/credential.ts';
import { EmbedError, type FailureCode } from '../core/failures.ts';
import { type KeyVerdict, statusAfter } from '../credentials/health.ts';
import { recordKeyHealth } from '../db/tenant-credentials.ts';
import type { EmbedAnswer, EmbedRequest } from '../openai/embedder.ts';
import type { AnswerHeard, Reservation, Wait } from '../pacing/pacer.ts';
import { pause, reserveSoon, SLEEP_MS_MAX } from '../pacing/wait.ts';
import type { BatchDeps } from './deps.ts';
import { inSlot } from './in-slot.ts';

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
  /** Whether a wait is to be sat out here, since what was found out so far would be lost with the slot. */
  readonly sitsOut: (waitMs: number) => boolean;
};

/** What tells a provider that is well from one that is not. Neutral, short, and nobody's text. */
const PROBE_TEXT = 'ping';

/** Failures that the provider may be to blame for as well as the work. */
const PROVIDER_FAILURES: readonly FailureCode[] = [
  'provider_failed',
  'connection_failed',
  'timed_out',
  // What stands before a provider that is down may answer in its place, with a page and a 200.
  'answer_malformed',
];

function isProviderFailure(error: unknown): boolean {
  return error instanceof EmbedError && PROVIDER_FAILURES.includes(error.code);
}

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
    const answer = await send(deps, { ...call, onRequest }, texts);
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

/** A server that reports no usage is taken at our estimate. */
function heard(answer: EmbedAnswer): AnswerHeard {
  return { ...answer, tokens: answer.tokens > 0 ? answer.tokens : null };
}

/** Longest that an answer waits for Redis to hear of it. */
const TELL_MS_MAX = 1_000;

/** Waits for the pacer, but not for long: what is paid for has to reach Postgres, also while Redis is away. */
async function briefly(deps: BatchDeps, told: Promise<void>): Promise<void> {
  const logged = told.catch((error: unknown) => deps.log.warn({ err: error }, 'pacer_not_told'));
  await Promise.race([logged, sleep(TELL_MS_MAX)]);
}

function send(deps: BatchDeps, call: Call, texts: readonly string[]): Promise<EmbedAnswer> {
  const embed = () => {
    call.onRequest();
    const { model, dimensions, sendDimensions, fields } = call;
    const request = { texts, model, dimensions, sendDimensions, fields };
    return deps.embedder.embed(call.credential, request, call.signal);
  };
  return deps.keyGate.pass(call.keyName, call.tenantId, embed, () =>
    // The answer is paid for: what cannot be noted at the moment is noted with the next one.
    noteHealth(deps, call, { status: 'valid', reason: null }).catch(() =>
      deps.keyGate.forgetGood(call.keyName, call.tenantId),
    ),
  );
}

/** Who is sent away for longer than this comes so seldom to the same point that it does not matter to begin anew. */
const COOLDOWN_MS_MAX = 10 * 60_000;
/** So soon somebody who sits a wait out finds out that his run has stopped. */
const SIT_OUT_LOOK_MS = 2_000;

/** @throws {EmbedError} unless it was our turn to probe, and the provider is well, or the wait was sat out. */
async function onWait(deps: BatchDeps, call: Call, wait: Wait): Promise<void> {
  if (wait.because === 'probe') return probe(deps, call, wait.waitMs);
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
  if (error.code === 'rate_limited') {
    await deps.pacer.refused(place, { retryAfterMs: error.retryAfterMs ?? null, limits });
    return (error.retryAfterMs ?? 0) <= SLEEP_MS_MAX || call.sitsOut(error.retryAfterMs ?? 0);
  }
  if (isProviderFailure(error)) {
    const { next, waitMs } = await deps.pacer.failed(place);
    if (next === 'wait') throw new EmbedError('account_paused', { retryAfterMs: waitMs });
    await probe(deps, call, waitMs);
    return false;
  }
  await deps.pacer.settled(place, { tokens: null, limits, organization: null });
  if (error.code === 'answer_wrong_dimensions') await assertModelFits(deps, call);
  return false;
}

/**
 * Tells an answer that went wrong once from a model that makes other vectors than the target has room for, by a neutral word.
 *
 * @throws {EmbedError} `model_wrong_dimensions` when the word's vector has a wrong length, too.
 */
async function assertModelFits(deps: BatchDeps, call: Call): Promise<void> {
  const size = { inputs: 1, bytes: PROBE_TEXT.length };
  const place = await reserveSoon(deps.pacer, call.credential, call.model, size, call.signal);
  // The batch comes again anyway, and asks then.
  if (!place.go) return;
  try {
    await deps.pacer.settled(place, heard(await send(deps, call, [PROBE_TEXT])));
  } catch (error) {
    if (error instanceof EmbedError && error.code === 'answer_wrong_dimensions')
      throw new EmbedError('model_wrong_dimensions', error);
  } finally {
    await deps.pacer.released(place);
  }
}

/** @throws {EmbedError} `account_paused` when the neutral word is not answered either. */
async function probe(deps: BatchDeps, call: Call, inMs: number): Promise<void> {
  // Until a fixed limit has room for it. The slot is kept: only the work that failed can be cleared of blame or take it.
  for (let leftMs = inMs; leftMs > 0; leftMs -= SIT_OUT_LOOK_MS) {
    await pause(Math.min(leftMs, SIT_OUT_LOOK_MS), call.signal);
    await call.assertWanted();
  }
  const isWell = await send(deps, call, [PROBE_TEXT]).then(
    () => true,
    async (error: unknown) => {
      // Stopped from our side: that says nothing of the provider, and somebody else probes when our time is over.
      if (!(error instanceof EmbedError) || error.code === 'shutting_down') throw error;
      // The pacer is to hear of the probe whatever comes of this: what cannot be noted is noted by the next call.
      await noteFailure(deps, call, error).catch(() => undefined);
      // A refusal is an answer too: whoever refuses is there.
      return !isProviderFailure(error);
    },
  );
  const { waitMs } = await deps.pacer.probed(call.credential, call.model, isWell);
  if (!isWell) throw new EmbedError('account_paused', { retryAfterMs: waitMs });
}

/** Records what a failure showed about a tenant's own key, if anything. */
async function noteFailure(deps: BatchDeps, call: Call, error: unknown): Promise<void> {
  if (!(error instanceof EmbedError)) return;
  // Its next answer shows that the key works again. One that is dead does so by no answer of this run.
  if (error.code === 'rate_limited') deps.keyGate.forgetGood(call.keyName, call.tenantId);
  await noteHealth(deps, call, statusAfter(error));
}

/** Records what a call showed about a tenant's own key. */
async function noteHealth(
  deps: BatchDeps,
  { tenantId, credential }: Pick<Call, 'tenantId' | 'credential'>,
  health: KeyVerdict | undefined,
): Promise<void> {
  if (health === undefined || credential.owner !== 'tenant') return;
  await recordKeyHealth(deps.db, { tenantId, fingerprint: credential.fingerprint, ...health });
}

const NO_LIMITS = {
  requestsLimit: null,
  requestsRemaining: null,
  requestsResetMs: null,
  tokensLimit: null,
  tokensRemaining: null,
  tokensResetMs: null,
} as const;
