/** The neutral word that tells whether the provider, the form of our requests or the work is to blame for a failure. */
import { EmbedError } from '../core/failures.ts';
import { pause, reserveSoon } from '../pacing/wait.ts';
import type { Call } from './call-provider.ts';
import type { BatchDeps } from './deps.ts';
import { heard, isProviderFailure, noteFailure, send } from './send-request.ts';

/** What tells a provider that is well from one that is not. Neutral, short, and nobody's text. */
const PROBE_TEXT = 'ping';

/** So soon somebody who waits to send the word finds out that his run has stopped. */
const LOOK_MS = 2_000;

/** Answers that were understood, and hold no vectors that could be stored. */
export function isUnusable(error: EmbedError): boolean {
  if (error.code === 'answer_wrong_dimensions') return true;
  return error.code.startsWith('answer_') && error.status !== undefined;
}

/** So often in a row a plain word may get no vector before its tenant stops: each answer may be paid for. */
const UNUSABLE_ROUNDS_MAX = 3;

/**
 * Tells an answer that went wrong once, or for one of its texts, from a model whose answers are of no use, by a neutral word.
 *
 * @returns whether the word's vector could be stored; false also when it was not sent.
 * @throws {EmbedError} `model_wrong_dimensions` when the word's vector has a wrong length, too. `provider_unusable` when the
 *   word's answer was of no use several times in a row.
 */
export async function isWordUsable(
  deps: BatchDeps,
  call: Call,
  triesLeft = WORD_TRIES - 1,
): Promise<boolean> {
  const size = { inputs: 1, bytes: PROBE_TEXT.length };
  const place = await reserveSoon(deps.pacer, call.credential, call.model, size, call.signal);
  // The batch comes again anyway, and asks then.
  if (!place.go) return false;
  try {
    await deps.pacer.settled(place, heard(await send(deps, call, [PROBE_TEXT])));
    return true;
  } catch (error) {
    if (error instanceof EmbedError && error.code === 'answer_wrong_dimensions' && !error.again)
      throw new EmbedError('model_wrong_dimensions', error);
    noteUnusable(deps, call, error);
    // A trouble that has nothing to do with the answer before.
    const isPassing = isProviderFailure(error) && error.status !== undefined;
    if (!isPassing || triesLeft === 0) return false;
  } finally {
    await deps.pacer.released(place);
  }
  return isWordUsable(deps, call, triesLeft - 1);
}

/** How often the word is sent, if the provider fails meanwhile. */
const WORD_TRIES = 2;

/** @throws {EmbedError} `provider_unusable`. */
function noteUnusable(deps: BatchDeps, call: Call, error: unknown): void {
  if (!(error instanceof EmbedError) || !isUnusable(error)) return;
  const { rounds } = deps.keyGate.noteTrouble(call.keyName, 'unusable');
  if (rounds >= UNUSABLE_ROUNDS_MAX) throw new EmbedError('provider_unusable', error);
}

/** A page in place of an answer, with a 200, is an outage; for so many rounds and so long it is no endpoint for embeddings. */
const PAGE_ROUNDS_MAX = 30;
const PAGE_ENDLESS_MS = 60_000;
/** An outage stops nobody, unless it lasts for so long that somebody has to look. */
const DOWN_ROUNDS_MAX = 60;
const DOWN_ENDLESS_MS = 6 * 3_600_000;

/** @throws {EmbedError} `provider_unusable` for a provider that did not answer a plain word for very long. */
function noteDown(deps: BatchDeps, call: Call, error: EmbedError): void {
  const isPage = error.code === 'answer_malformed';
  const { rounds, forMs } = deps.keyGate.noteTrouble(call.keyName, isPage ? 'page' : 'down');
  const isEndless = isPage
    ? rounds > PAGE_ROUNDS_MAX && forMs > PAGE_ENDLESS_MS
    : rounds > DOWN_ROUNDS_MAX && forMs > DOWN_ENDLESS_MS;
  if (isEndless) throw new EmbedError('provider_unusable', error);
}

/**
 * Sends the neutral word. Returns `changed` when it was answered in another form than the work's request had. A refusal shows
 * that the provider is there, and nothing about the work.
 *
 * @throws {EmbedError} `account_paused` when the neutral word is not answered either, `provider_unusable` when that was so time
 *   and again.
 */
export async function probe(
  deps: BatchDeps,
  call: Call,
  inMs: number,
): Promise<'answered' | 'refused' | 'changed'> {
  // Until a fixed limit has room for it. The slot is kept: only the work that failed can be cleared of blame or take it.
  for (let leftMs = inMs; leftMs > 0; leftMs -= LOOK_MS) {
    await pause(Math.min(leftMs, LOOK_MS), call.signal);
    await call.assertWanted();
  }
  let failure = await failureOfWord(deps, call);
  let isChanged = false;
  while (failure !== undefined && mayBeForm(failure) && isOtherFormLeft(deps, call, failure)) {
    isChanged = true;
    failure = await failureOfWord(deps, call);
  }
  // A refusal is an answer too: whoever refuses is there.
  const isWell = failure === undefined || !isProviderFailure(failure);
  const { waitMs } = await deps.pacer.probed(call.credential, call.model, isWell);
  if (failure !== undefined) noteUnusable(deps, call, failure);
  if (failure !== undefined && !isWell) {
    if (!isUnusable(failure)) noteDown(deps, call, failure);
    throw new EmbedError('account_paused', { ...failure, retryAfterMs: waitMs });
  }
  if (failure !== undefined) return 'refused';
  return isChanged ? 'changed' : 'answered';
}

/** What the neutral word failed with. */
async function failureOfWord(deps: BatchDeps, call: Call): Promise<EmbedError | undefined> {
  return send(deps, call, [PROBE_TEXT]).then(
    () => undefined,
    async (error: unknown) => {
      // Stopped from our side: that says nothing of the provider, and somebody else probes when our time is over.
      if (!(error instanceof EmbedError) || error.code === 'shutting_down') throw error;
      // The pacer is to hear of the probe whatever comes of this: what cannot be noted is noted by the next call.
      await noteFailure(deps, call, error).catch(() => undefined);
      return error;
    },
  );
}

/** Whether a refusal, or a 500, may be about the form of the request. Other statuses speak of an outage. */
function mayBeForm({ code, status, again }: EmbedError): boolean {
  return (
    again || code === 'request_invalid' || (code === 'provider_failed' && (status === 500 || status === 501))
  );
}

function isOtherFormLeft({ embedder }: BatchDeps, call: Call, { again }: EmbedError): boolean {
  return again || (embedder.tryOtherForm?.(call.credential, call) ?? false);
}
