/**
 * Steers a server in another process: `/_control/*`, JSON in and out, on a port of its own, so that it still answers
 * while the server refuses connections.
 *
 * No authentication: it listens on the loopback interface only.
 */
import { createServer, type IncomingMessage } from 'node:http';
import { z } from 'zod';
import type { OpenAiServer } from './server.ts';
import { FaultRule, KeyConfig, KeyState, Latency, LimitsConfig, Outage, Poison } from './settings.ts';

type Route = (server: OpenAiServer, body: unknown, query: URLSearchParams) => unknown;

/** Calls that one answer of the ledger holds at most. */
const LEDGER_CALLS_MAX = 1_000;

const ROUTES: Readonly<Record<string, Route>> = {
  'GET /_control/status': (server) => ({
    url: server.url,
    outage: server.faults.outage,
    ...server.ledger.summary(),
  }),

  'GET /_control/keys': (server) => server.accounts.list(),
  'PUT /_control/keys': (server, body) => server.accounts.put(KeyConfig.parse(body)),
  'PUT /_control/keys/state': (server, body) => {
    const { key, state } = z.strictObject({ key: z.string(), state: KeyState }).parse(body);
    server.accounts.setState(key, state);
  },
  'DELETE /_control/keys': (server, body) => {
    server.accounts.remove(z.strictObject({ key: z.string() }).parse(body).key);
  },
  'PUT /_control/limits': (server, body) => server.accounts.setLimits(LimitsConfig.parse(body)),

  'GET /_control/faults': (server) => server.faults.list(),
  'POST /_control/faults': (server, body) => ({ id: server.faults.add(FaultRule.parse(body)) }),
  // Without an id: all of them.
  'DELETE /_control/faults': (server, _body, query) => {
    const id = query.get('id');
    server.faults.clear(id === null ? undefined : Number(id));
  },
  'PUT /_control/outage': (server, body) =>
    server.faults.setOutage(z.strictObject({ outage: Outage }).parse(body).outage),
  'PUT /_control/latency': (server, body) => server.setLatency(Latency.parse(body)),
  'PUT /_control/poison': (server, body) => server.setPoison(z.array(Poison).parse(body)),

  // Paged: pass the last call number seen as `after`; an empty page means that there are no more yet.
  'GET /_control/ledger': (server, _body, query) => {
    const after = Number(query.get('after') ?? 0);
    return { calls: server.ledger.entries.slice(after, after + LEDGER_CALLS_MAX) };
  },
  'DELETE /_control/ledger': (server) => server.ledger.reset(),
};

export type Control = { readonly url: string; close(): Promise<void> };

/** Listens on `port` of the loopback interface, 0 for a free one. */
export async function startControl(server: OpenAiServer, port: number): Promise<Control> {
  const http = createServer(async (req, res) => {
    const { status, body } = await answer(server, req);
    res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body ?? {}));
  });
  await new Promise<void>((resolve, reject) => {
    http.once('error', reject);
    http.listen(port, '127.0.0.1', resolve);
  });
  const address = http.address();
  const bound = address !== null && typeof address === 'object' ? address.port : port;

  return {
    url: `http://127.0.0.1:${bound}/_control`,
    close: () =>
      new Promise((resolve) => {
        http.close(() => resolve());
        http.closeAllConnections();
      }),
  };
}

async function answer(
  server: OpenAiServer,
  req: IncomingMessage,
): Promise<{ status: number; body: unknown }> {
  const { pathname, searchParams } = new URL(req.url ?? '', 'http://control');
  const route = ROUTES[`${req.method} ${pathname}`];
  if (!route) return { status: 404, body: { error: 'no such route', routes: Object.keys(ROUTES) } };

  try {
    let text = '';
    for await (const chunk of req.setEncoding('utf8')) text += chunk;
    return {
      status: 200,
      body: await route(server, text === '' ? undefined : JSON.parse(text), searchParams),
    };
  } catch (error) {
    const message = error instanceof z.ZodError ? z.prettifyError(error) : String(error);
    return { status: 400, body: { error: message } };
  }
}
