import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

/** What clients sent to Postgres since the last `reset`. */
export type WireCounts = {
  /** Statements that were executed; those in one simple query count as one. */
  readonly statements: number;
  /** How often a client sent something when nothing was left to be answered. */
  readonly roundTrips: number;
  /** Statements that Postgres was asked to parse. */
  readonly parsed: number;
};

export type WireCounter = {
  /** Postgres' URL, by way of the counter. */
  readonly url: string;
  counts(): WireCounts;
  reset(): void;
  close(): Promise<void>;
};

const SSL_REQUEST = 80_877_103;
/** As on a network: what a client sends without waiting is on its way before the first answer arrives. */
const ANSWER_DELAY_MS = 20;

/** Stands between clients and the Postgres of `databaseUrl`, and counts by the messages of the protocol. Without TLS only. */
export async function startWireCounter(databaseUrl: string): Promise<WireCounter> {
  const target = new URL(databaseUrl);
  const sockets = new Set<Socket>();
  let counts = { statements: 0, roundTrips: 0, parsed: 0 };

  const server = createServer((client) => {
    const upstream = connect(Number(target.port), target.hostname);
    /** Messages that end with a ReadyForQuery and have not got it yet. */
    let unanswered = 0;
    let isIdle = true;
    const noteSent = (type: string) => {
      if (isIdle) counts.roundTrips++;
      isIdle = false;
      if (type === 'Q' || type === 'S') unanswered++;
      if (type === 'Q' || type === 'E') counts.statements++;
      if (type === 'P') counts.parsed++;
    };
    const session = { started: false };
    const sent = frames(session, noteSent);
    const received = frames({ started: true }, (type) => {
      if (type !== 'Z') return;
      unanswered = Math.max(0, unanswered - 1);
      isIdle = unanswered === 0;
    });
    client.on('data', (chunk: Buffer) => {
      sent(chunk);
      upstream.write(chunk);
    });
    upstream.on('data', (chunk: Buffer) => {
      // The one byte that answers a request for TLS is no message.
      const isAnswer = session.started || chunk.length > 1;
      setTimeout(() => {
        if (isAnswer) received(chunk);
        client.write(chunk);
      }, ANSWER_DELAY_MS);
    });
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => other.destroy());
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('a TCP server has a port');
  const url = new URL(databaseUrl);
  url.hostname = '127.0.0.1';
  url.port = String(address.port);

  return {
    url: url.href,
    counts: () => ({ ...counts }),
    reset: () => {
      counts = { statements: 0, roundTrips: 0, parsed: 0 };
    },
    close: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

/** Takes a stream of messages apart. A session begins with a message that has no type. */
function frames(session: { started: boolean }, onMessage: (type: string) => void): (chunk: Buffer) => void {
  let rest: Buffer = Buffer.alloc(0);
  return (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    for (;;) {
      const head = session.started ? 1 : 0;
      if (rest.length < head + 4) return;
      const end = head + rest.readInt32BE(head);
      if (rest.length < end) return;
      if (session.started) onMessage(String.fromCharCode(rest[0] ?? 0));
      else session.started = rest.readInt32BE(4) !== SSL_REQUEST;
      rest = rest.subarray(end);
    }
  };
}
