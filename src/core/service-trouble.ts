/** Codes of errors that say that Postgres or Redis is away, or is just going or coming. */
const GONE_CODES: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'ENOTFOUND',
  'CONNECT_TIMEOUT',
  'CONNECTION_CLOSED',
  'CONNECTION_ENDED',
  'CONNECTION_DESTROYED',
  // admin_shutdown, crash_shutdown, cannot_connect_now
  '57P01',
  '57P02',
  '57P03',
  // idle_in_transaction_session_timeout: we stood still for too long
  '25P03',
  // read_only_sql_transaction: a failover is under way
  '25006',
]);

/**
 * Connection exceptions (08), and insufficient resources (53): too many connections, no memory, a full disk. A person or
 * time makes them pass, and no row is to blame.
 */
const GONE_CLASSES = /^(?:08|53)[0-9A-Z]{3}$/;

/** ioredis gives its errors no codes. */
const GONE_WORDS = /Command timed out|enableOfflineQueue|Connection is closed|MaxRetriesPerRequest/;

/** Whether an error, or what caused it, says that a service is away: the request may be repeated, nothing is broken here. */
export function isServiceGone(error: unknown): boolean {
  for (let at = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    const code = String((at as { code?: unknown }).code);
    if (GONE_CODES.has(code) || GONE_CLASSES.test(code)) return true;
    // The message of a failed query repeats its parameters, which may say anything.
    if (!('params' in at) && GONE_WORDS.test(`${at.name} ${at.message}`)) return true;
  }
  return false;
}

/** SQLSTATEs of statements that lost against others, and may simply be sent again. */
const LOST_CODES: ReadonlySet<string> = new Set(['40P01', '40001']);
/** lock_not_available, query_canceled: the database is busy, and more of the same would make it worse. */
const BUSY_CODES: ReadonlySet<string> = new Set(['55P03', '57014']);

export type DatabaseTrouble = 'gone' | 'lost' | 'busy';

/**
 * What kind of passing trouble an error of the database is; undefined when it is none.
 *
 * - `gone`: away, or just going or coming.
 * - `lost`: a deadlock or a conflict with another transaction, which won.
 * - `busy`: a lock or the statement took longer than its limit.
 */
export function databaseTrouble(error: unknown): DatabaseTrouble | undefined {
  for (let at = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    const code = String((at as { code?: unknown }).code);
    if (LOST_CODES.has(code)) return 'lost';
    if (BUSY_CODES.has(code)) return 'busy';
  }
  return isServiceGone(error) ? 'gone' : undefined;
}

/** data exception, invalid schema name, syntax error or access rule violation: the same statement fails each time. */
const REFUSED_CLASSES = /^(?:22|3F|42)[0-9A-Z]{3}$/;

/** data exception, integrity constraint violation, WITH CHECK OPTION violation, and what PL/pgSQL raises. */
const ROW_CLASSES = /^(?:22|23|44|P0)[0-9A-Z]{3}$/;

/**
 * The code and the words with which Postgres, or a trigger, refuses what may be one row of a write. Undefined when the error is
 * nothing of the kind. The words may repeat the row.
 */
export function rowRefusal(error: unknown): { code: string; message: string } | undefined {
  return refusalOf(error, ROW_CLASSES);
}

/**
 * The code and the words with which Postgres refuses a statement for good: a right, a table or a column is missing (42), or a
 * value has the wrong type (22). Undefined when the error is nothing of the kind.
 */
export function databaseRefusal(error: unknown): { code: string; message: string } | undefined {
  return refusalOf(error, REFUSED_CLASSES);
}

function refusalOf(error: unknown, classes: RegExp): { code: string; message: string } | undefined {
  for (let at = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    const { code } = at as { code?: unknown };
    if (typeof code === 'string' && classes.test(code)) return { code, message: at.message };
  }
  return undefined;
}
