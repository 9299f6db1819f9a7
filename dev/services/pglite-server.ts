import { createServer, type Server, type Socket } from 'node:net';
import type { PGlite } from '@electric-sql/pglite';
import { type Client, SessionTurns } from './session-turns.ts';
import {
  copiesFromClient,
  cutMessages,
  fatalMessage,
  readGreeting,
  startupMessage,
} from './wire-messages.ts';

const IDLE_IN_TRANSACTION_MS = 30_000;
const TERMINATE = 'X'.charCodeAt(0);
const NO_ENCRYPTION = Buffer.from('N');

/**
 * Serves a PGlite to any number of ordinary PostgreSQL clients on a free loopback port.
 *
 * Not the server of `@electric-sql/pglite-socket`: that one takes turns by message, so that with several connections
 * one client's Parse is answered to another's Bind whenever the statement has no name, as all of Drizzle's.
 *
 * The session is still one: a transaction makes everybody else wait, `SET` is seen by all, LISTEN hears nothing and
 * advisory locks exclude nobody. `onBroken` is called when the database itself gives up; it is of no use afterwards.
 */
export async function servePglite(db: PGlite, onBroken: (error: unknown) => void): Promise<number> {
  const execute = (messages: Buffer) => db.runExclusive(() => answerOf(db, messages));
  // Every client gets the same greeting: asking the session each time would make newcomers wait for a transaction.
  const greeting = await execute(startupMessage('postgres', 'postgres'));
  const turns = new SessionTurns(execute, IDLE_IN_TRANSACTION_MS);

  const server = createServer({ noDelay: true }, (socket) => serveClient(socket, greeting, turns, onBroken));
  return listen(server);
}

function serveClient(
  socket: Socket,
  greeting: Buffer,
  turns: SessionTurns,
  onBroken: (error: unknown) => void,
): void {
  const client: Client = {
    pending: [],
    send: (answer) => void (socket.writable && answer.length > 0 && socket.write(answer)),
    end: () => socket.destroySoon(),
  };
  const receiver = createReceiver(client, greeting, () => turns.submit(client).catch(onBroken));
  socket.on('data', (chunk: Buffer) => receiver(chunk));
  // A reset is how clients that crash say goodbye; 'close' follows.
  socket.on('error', () => {});
  socket.on('close', () => turns.leave(client).catch(onBroken));
}

/**
 * Returns what takes a client's bytes: greets it, then adds its whole messages to `pending` and calls `submit`.
 */
function createReceiver(client: Client, greeting: Buffer, submit: () => void): (chunk: Buffer) => void {
  let chunks: Buffer[] = [];
  let bytes = 0;
  let bytesMin = 0;
  let started = false;

  function keep(rest: Buffer, restBytesMin: number): void {
    chunks = [rest];
    bytes = rest.length;
    bytesMin = restBytesMin;
  }

  return (chunk) => {
    chunks.push(chunk);
    bytes += chunk.length;
    // Joined only when a message can be whole: joining at each chunk would copy a large message hundreds of times.
    if (bytes < bytesMin) return;
    let received: Buffer = Buffer.concat(chunks);

    while (!started) {
      const first = readGreeting(received);
      if (first.kind === 'incomplete') return keep(received, 0);
      if (first.kind === 'other') return client.end();
      client.send(first.kind === 'encryption' ? NO_ENCRYPTION : greeting);
      started = first.kind === 'startup';
      received = first.rest;
    }

    const { messages, rest, restBytesMin } = cutMessages(received);
    keep(rest, restBytesMin);
    for (const each of messages) {
      if (each[0] === TERMINATE) return client.end();
      if (copiesFromClient(each)) return refuseCopy(client);
      client.pending.push(each);
    }
    if (messages.length > 0) submit();
  };
}

/** PGlite cannot wait for the client's rows in the middle of a statement: it would end the whole process. */
function refuseCopy(client: Client): void {
  client.send(fatalMessage('0A000', 'the embedded database cannot COPY FROM STDIN'));
  client.end();
}

async function answerOf(db: PGlite, messages: Buffer): Promise<Buffer> {
  const parts: Buffer[] = [];
  await db.execProtocolRawStream(messages, {
    // Copied, because the part is a view of wasm memory that the next one overwrites.
    onRawData: (part) => void parts.push(Buffer.from(part)),
  });
  return Buffer.concat(parts);
}

function listen(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      if (address === null || typeof address === 'string') throw new Error('a TCP server has a port');
      resolve(address.port);
    });
  });
}
