/**
 * The little of the PostgreSQL wire protocol that a server in front of one session has to understand: where a message
 * ends, and whether the session is free after an answer.
 */

/** A typed message is one byte of type and a length of four bytes that counts itself. */
const HEADER_BYTES = 5;

const READY_FOR_QUERY = 'Z'.charCodeAt(0);
const IDLE = 'I'.charCodeAt(0);

export type Cut = {
  /** Whole messages, in the order they came. */
  readonly messages: readonly Buffer[];
  /** The beginning of a message whose end has not arrived. */
  readonly rest: Buffer;
  /** Length that the rest must grow to before it is worth cutting again. */
  readonly restBytesMin: number;
};

/** Cuts what a client sent after its startup into whole messages. */
export function cutMessages(received: Buffer): Cut {
  const messages: Buffer[] = [];
  let rest = received;
  for (;;) {
    const bytes = rest.length < HEADER_BYTES ? HEADER_BYTES : 1 + rest.readInt32BE(1);
    if (rest.length < bytes) return { messages, rest, restBytesMin: bytes };
    messages.push(rest.subarray(0, bytes));
    rest = rest.subarray(bytes);
  }
}

/**
 * Says whether the session is free for another client after this answer: its last message is "ready for query", outside
 * of a transaction.
 *
 * An answer that ends in anything else belongs to a client that has not sent its Sync yet.
 */
export function leavesSessionIdle(answer: Buffer): boolean {
  const last = cutMessages(answer).messages.at(-1);
  return last !== undefined && last[0] === READY_FOR_QUERY && last[HEADER_BYTES] === IDLE;
}

const QUERY = 'Q'.charCodeAt(0);
const PARSE = 'P'.charCodeAt(0);

/** Says whether a message starts a COPY from the client, as a query or as a statement to prepare. */
export function copiesFromClient(message: Buffer): boolean {
  if (message[0] !== QUERY && message[0] !== PARSE) return false;
  // The statement's beginning is enough, and spares reading megabytes of parameters written into a query.
  return /(?:^|[\0;])\s*copy\b[^;]*\bfrom\s+stdin\b/i.test(message.toString('latin1', HEADER_BYTES, 2_000));
}

/** Builds one message of the given type. */
export function message(type: string, body: Buffer = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.write(type, 0, 'latin1');
  header.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([header, body]);
}

/** Builds a simple query. */
export function queryMessage(statement: string): Buffer {
  return message('Q', Buffer.from(`${statement}\0`));
}

/** Builds an error that tells the client that its connection ends. */
export function fatalMessage(sqlState: string, text: string): Buffer {
  return message('E', Buffer.from(`SFATAL\0VFATAL\0C${sqlState}\0M${text}\0\0`));
}

/** Builds the startup packet of protocol 3.0, which alone has no type. */
export function startupMessage(user: string, database: string): Buffer {
  const body = Buffer.from(`user\0${user}\0database\0${database}\0\0`);
  const header = Buffer.alloc(8);
  header.writeInt32BE(body.length + 8, 0);
  header.writeInt32BE(PROTOCOL_3_0, 4);
  return Buffer.concat([header, body]);
}

export const PROTOCOL_3_0 = 196_608;
const SSL_REQUEST = 80_877_103;
const GSS_REQUEST = 80_877_104;

/** What a client may say before its session begins. `incomplete`: wait for more bytes. */
export type Greeting =
  | { readonly kind: 'incomplete' }
  | { readonly kind: 'encryption' | 'startup' | 'other'; readonly rest: Buffer };

/** Reads the first, untyped message of a connection. `other` is a cancel request or no PostgreSQL client at all. */
export function readGreeting(received: Buffer): Greeting {
  if (received.length < 8) return { kind: 'incomplete' };
  const length = received.readInt32BE(0);
  if (received.length < length) return { kind: 'incomplete' };

  const code = received.readInt32BE(4);
  const rest = received.subarray(length);
  if (code === SSL_REQUEST || code === GSS_REQUEST) return { kind: 'encryption', rest };
  if (code === PROTOCOL_3_0) return { kind: 'startup', rest };
  return { kind: 'other', rest };
}
