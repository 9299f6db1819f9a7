import { setTimeout as sleep } from 'node:timers/promises';
import type { Credential } from '../core/credential.ts';
import type { Pacer, RequestSize, Reservation, Wait } from './pacer.ts';

/** A wait up to this long is slept on the spot; a longer one is handed back, so that the slot serves another tenant. */
export const SLEEP_MS_MAX = 1_000;
/** Sleeps in a row before a wait is handed back whatever its length. */
const ASKED_MAX = 5;

/**
 * Reserves, sleeping short waits. A reservation that comes back may be sent at once.
 *
 * Answers with the wait when it is longer than a second or keeps coming back, and when the caller is to probe.
 *
 * @throws the signal's reason when it aborts; a place that was taken is given back.
 */
export async function reserveSoon(
  pacer: Pacer,
  credential: Credential,
  model: string,
  size: RequestSize,
  signal: AbortSignal,
): Promise<Reservation | Wait> {
  for (let asked = 1; ; asked++) {
    signal.throwIfAborted();
    const answer = await pacer.reserve(credential, model, size);
    if (answer.go) return sleepOrRelease(pacer, answer, signal);
    if (answer.because === 'probe' || answer.waitMs > SLEEP_MS_MAX || asked === ASKED_MAX) return answer;
    await pause(answer.waitMs, signal);
  }
}

async function sleepOrRelease(
  pacer: Pacer,
  reservation: Reservation,
  signal: AbortSignal,
): Promise<Reservation> {
  try {
    signal.throwIfAborted();
    if (reservation.waitMs > 0) await pause(reservation.waitMs, signal);
    return reservation;
  } catch (error) {
    await pacer.released(reservation);
    throw error;
  }
}

/** Unlike the timer itself, rejects with the reason that the signal was aborted for. */
export async function pause(forMs: number, signal: AbortSignal): Promise<void> {
  await sleep(forMs, undefined, { signal }).catch(() => signal.throwIfAborted());
}
