import { EmbedError } from '../core/failures.ts';
import { holderKeyOf } from '../pacing/account-key.ts';
import type { Call } from './call-provider.ts';
import type { BatchDeps } from './deps.ts';

/**
 * Does a call within its account's share of the worker's slots.
 *
 * @throws {EmbedError} `paced` when the account has its share already, unless what was found out of a refusal would be lost.
 */
export async function inSlot<Result>(
  { slotShares }: Pick<BatchDeps, 'slotShares'>,
  call: Call,
  send: (counted: Call) => Promise<Result>,
): Promise<Result> {
  const account = `${holderKeyOf(call.credential)} ${call.model}`;
  const awayMs = slotShares.waitMsOf(account);
  if (awayMs > 0 && !call.sitsOut(awayMs)) throw new EmbedError('paced', { retryAfterMs: awayMs });
  const slot = slotShares.enter(account);
  const onRequest = () => {
    slot.sent();
    call.onRequest();
  };
  try {
    return await send({ ...call, onRequest });
  } finally {
    slot.leave();
  }
}
