import { createHmac } from 'node:crypto';
import type { StoryLog } from '../backfill/deps.ts';
import { backoffCeilingMs } from '../core/backoff.ts';
import { type DueEvent, recordDelivery, takeDueEvents } from '../db/audit.ts';
import type { Db } from '../db/client.ts';

export type Webhook = {
  readonly url: string;
  readonly secret: string;
  /** The first pause before a failed batch is tried again; a post waits five times as long. */
  readonly retryBackoffMs: number;
};

const EVENTS_AT_ONCE = 10;
const TIMEOUT_MS = 10_000;
/** A process that dies while it delivers leaves the events to another one after this time. */
const LEASE_MS = 2 * EVENTS_AT_ONCE * TIMEOUT_MS;
/** Times the first pause: 5 s by default, doubling to an hour, which makes about a day in all. */
const BACKOFF_FACTOR = 5;
const BACKOFF_MS_MAX = 3_600_000;
const ATTEMPTS_MAX = 33;

/**
 * Posts the events that are due: the end of every run, at least once each.
 *
 * The body is signed: `x-infill-signature: sha256=<HMAC-SHA256 of the body, hex>`. It holds the time of this very post, `sentAt`,
 * by which a receiver refuses one that somebody kept and sends again. A receiver that sees an `eventId` again has had it before. Any answer but a 2xx, redirects included, is tried again later, for about a day. When `signal` aborts,
 * the post under way is broken off and what was not delivered is due again at once, for another worker.
 */
export async function deliverEvents(
  db: Db,
  webhook: Webhook,
  log: StoryLog,
  signal: AbortSignal,
): Promise<void> {
  if (signal.aborted) return;
  const backoff = { baseMs: BACKOFF_FACTOR * webhook.retryBackoffMs, maxMs: BACKOFF_MS_MAX };
  const due = await takeDueEvents(db, { limit: EVENTS_AT_ONCE, leaseMs: LEASE_MS });
  for (const event of due) {
    const problem = signal.aborted ? 'stopped' : await post(webhook, event, signal);
    if (problem !== null && signal.aborted) {
      await recordDelivery(db, event.eventId, 0);
      continue;
    }
    const attempt = event.attempts + 1;
    const isOver = problem === null || attempt >= ATTEMPTS_MAX;
    await recordDelivery(db, event.eventId, isOver ? null : backoffCeilingMs(attempt, backoff));
    if (problem !== null)
      log.warn({ eventId: event.eventId, attempt, problem, givenUp: isOver }, 'webhook_failed');
  }
}

/** Null when it was accepted; else what went wrong, without the address, which may hold a secret. */
async function post({ url, secret }: Webhook, event: DueEvent, signal: AbortSignal): Promise<string | null> {
  const details = typeof event.details === 'string' ? JSON.parse(event.details) : event.details;
  const { attempts: _attempts, ...known } = event;
  const sentAt = new Date().toISOString();
  const body = JSON.stringify({ ...known, sentAt, status: event.action.replace('run.', ''), details });
  const signature = createHmac('sha256', secret).update(body).digest('hex');
  try {
    const answer = await fetch(url, {
      method: 'POST',
      body,
      redirect: 'error',
      signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
      headers: {
        'content-type': 'application/json',
        'x-infill-event': String(event.eventId),
        'x-infill-signature': `sha256=${signature}`,
      },
    });
    await answer.body?.cancel();
    return answer.ok ? null : `answered ${answer.status}`;
  } catch (error) {
    return (error as Error).name;
  }
}
