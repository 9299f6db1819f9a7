import { connect, createServer, type Server, type Socket } from 'node:net';

/** Stands between a client and a service, so that a test can take the service away without touching it. */
export type TcpProxy = {
  /** The service's URL, by way of the proxy. */
  readonly url: string;
  /** Closes the port and every connection: clients are refused. */
  cut(): Promise<void>;
  /** Resets every connection; the next attempt gets through. */
  reset(): void;
  /** Keeps taking connections and bytes, and passes none on: clients hear nothing. */
  freeze(): void;
  /** Cuts the next connection whose client sends `text`, before the service sees it. Resolves then. */
  cutAt(text: string): Promise<void>;
  /** Leads new connections to another service; those that are open stay where they are. */
  leadTo(serviceUrl: string): void;
  /** Undoes `cut` and `freeze`; what was held back is passed on. */
  restore(): Promise<void>;
  close(): Promise<void>;
};

/** Starts a proxy to the host and port of `serviceUrl` on a free port of its own. */
export async function startTcpProxy(serviceUrl: string): Promise<TcpProxy> {
  let service = new URL(serviceUrl);
  const sockets = new Set<Socket>();
  const breakpoints: { readonly text: string; readonly reached: () => void }[] = [];
  let frozen = false;

  const server = createServer((client) => {
    const upstream = connect(Number(service.port), service.hostname);
    // Before the pipe's own listener: it then writes to a socket that is destroyed, which does nothing.
    client.on('data', (chunk: Buffer) => {
      const at = breakpoints.findIndex(({ text }) => chunk.includes(text));
      if (at === -1) return;
      upstream.destroy();
      client.destroy();
      for (const { reached } of breakpoints.splice(at, 1)) reached();
    });
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from);
      from.pipe(to);
      // A reset on one side is the end of the other.
      from.on('error', () => to.destroy());
      from.on('close', () => {
        sockets.delete(from);
        to.destroy();
      });
      if (frozen) from.pause();
    }
  });
  const port = await listen(server, 0);
  const url = new URL(serviceUrl);
  url.hostname = '127.0.0.1';
  url.port = String(port);

  const stop = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve());
      for (const socket of sockets) socket.destroy();
    });

  return {
    url: url.href,
    cut: stop,
    reset() {
      for (const socket of sockets) socket.resetAndDestroy();
    },
    cutAt: (text) => new Promise((resolve) => void breakpoints.push({ text, reached: resolve })),
    freeze() {
      frozen = true;
      for (const socket of sockets) socket.pause();
    },
    leadTo(otherUrl) {
      service = new URL(otherUrl);
    },
    async restore() {
      frozen = false;
      for (const socket of sockets) socket.resume();
      if (!server.listening) await listen(server, port);
    },
    close: async () => {
      if (server.listening) await stop();
    },
  };
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      server.off('error', reject);
      const address = server.address();
      if (address === null || typeof address === 'string') throw new Error('a TCP server has a port');
      resolve(address.port);
    });
  });
}
