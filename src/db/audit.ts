/** Statements on `infill.audit_events`: who did what, when, on what. */
import { sql } from 'drizzle-orm';
import type { Db } from './client.ts';

export type AuditEvent = {
  readonly actor: string;
  /** A verb in the past tense with its noun first: `run.started`, `credential.stored`. */
  readonly action: string;
  readonly runId?: string | undefined;
  readonly subject?: string | undefined;
  /** Never a key or a text. */
  readonly details?: Readonly<Record<string, unknown>> | undefined;
  /** Whether the event is to be posted to the webhook. */
  readonly deliver?: boolean | undefined;
};

/** Appends an event. Not safe to repeat: call it in the transaction of what it reports. */
export async function recordAudit(db: Db, event: AuditEvent): Promise<void> {
  await db.execute(sql`
    INSERT INTO infill.audit_events (actor, action, run_id, subject, details, deliver_at)
    VALUES (${event.actor}, ${event.action}, ${event.runId ?? null}::uuid, ${event.subject ?? null},
            ${event.details === undefined ? null : JSON.stringify(event.details)}::jsonb,
            CASE WHEN ${event.deliver ?? false} THEN now() END)`);
}

export type DueEvent = {
  readonly eventId: number;
  readonly at: string;
  readonly action: string;
  readonly runId: string | null;
  readonly target: string | null;
  readonly details: unknown;
  /** How often it was posted before, in vain. */
  readonly attempts: number;
};

/**
 * Takes events that are due for the webhook, oldest first, for `leaseMs` milliseconds: nobody else gets them meanwhile. One
 * whose delivery is not recorded by then is due again, so that each is delivered at least once.
 */
export async function takeDueEvents(
  db: Db,
  { limit, leaseMs }: { limit: number; leaseMs: number },
): Promise<DueEvent[]> {
  const rows = await db.execute<DueEvent>(sql`
    UPDATE infill.audit_events e
       SET deliver_at = now() + make_interval(secs => ${leaseMs / 1000}), delivery_attempts = e.delivery_attempts + 1
     WHERE e.event_id IN (SELECT event_id FROM infill.audit_events WHERE deliver_at <= now()
                           ORDER BY deliver_at LIMIT ${limit} FOR UPDATE SKIP LOCKED)
    RETURNING e.event_id::float8 AS "eventId", to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS "at",
              e.action, e.run_id AS "runId", e.subject AS "target", e.details, e.delivery_attempts - 1 AS "attempts"`);
  return [...rows];
}

/** Records how a delivery ended: `inMs` is when to try again, null when it is done or given up. */
export async function recordDelivery(db: Db, eventId: number, inMs: number | null): Promise<void> {
  await db.execute(sql`
    UPDATE infill.audit_events
       SET deliver_at = CASE WHEN ${inMs}::float8 IS NULL THEN NULL ELSE now() + make_interval(secs => ${inMs}::float8 / 1000) END
     WHERE event_id = ${eventId}`);
}

export type AuditRecord = {
  readonly eventId: number;
  readonly at: string;
  readonly actor: string;
  readonly action: string;
  readonly runId: string | null;
  readonly subject: string | null;
  readonly details: unknown;
};

/** Events, the newest first, before the one of the id `before`. */
export async function listAudit(
  db: Db,
  { runId, before, limit }: { runId: string | null; before: number | null; limit: number },
): Promise<AuditRecord[]> {
  const isOfRun = runId === null ? sql`true` : sql`run_id = ${runId}::uuid`;
  const isOlder = before === null ? sql`true` : sql`event_id < ${before}`;
  const rows = await db.execute<AuditRecord>(sql`
    SELECT event_id::float8 AS "eventId", to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS "at",
           actor, action, run_id AS "runId", subject, details
      FROM infill.audit_events WHERE ${isOfRun} AND ${isOlder} ORDER BY event_id DESC LIMIT ${limit}`);
  return rows.map((row) => ({
    ...row,
    details: typeof row.details === 'string' ? JSON.parse(row.details) : row.details,
  }));
}
