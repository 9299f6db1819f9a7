/**
 * A local server that answers `/v1/embeddings` as OpenAI does, limits, headers and errors included, and goes wrong on
 * demand. For tests, benches and the demo; it never leaves the machine.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { Accounts } from './accounts.ts';
import { bearerOf, type EmbeddingsDeps, errorOfKey, headerOf, serveEmbeddings } from './embeddings.ts';
import { hashEncoder, useEncoder } from './encoders.ts';
import { invalidRequest, modelNotFound } from './errors.ts';
import { type Fault, Faults } from './faults.ts';
import { Ledger } from './ledger.ts';
import { errorReply, type Reply, send } from './reply.ts';
import type { KeyConfig, Latency, Limits, Outage, Poison } from './settings.ts';
import { estimateTokens, loadExactTokens } from './tokens.ts';
import { MODELS } from './validation.ts';

export type OpenAiServerOptions = {
  /** 127.0.0.1 by default. */
  readonly host?: string | undefined;
  /** 0, the default, takes a free one. */
  readonly port?: number | undefined;
  /** `hash` by default; `use` gives at most 512 dimensions, and 512 when a request names none. */
  readonly encoder?: 'hash' | 'use' | undefined;
  /** `estimate` by default. */
  readonly tokens?: 'estimate' | 'exact' | undefined;
  /** Lets every key in, each as an organisation of its own. False by default: unknown keys get 401. */
  readonly acceptAnyKey?: boolean | undefined;
  readonly keys?: readonly KeyConfig[] | undefined;
  /** For organisations that have none of their own. */
  readonly defaultLimits?: Limits | undefined;
  readonly faults?: readonly Fault[] | undefined;
  readonly poison?: readonly Poison[] | undefined;
  readonly tellsLimits?: boolean | undefined;
  readonly latency?: Latency | undefined;
  readonly outage?: Outage | undefined;
  /** False keeps hashes in place of the texts, for big benches. */
  readonly ledgerTexts?: boolean | undefined;
  /** Milliseconds; the clock of the limits and the ledger. */
  readonly now?: (() => number) | undefined;
};

export type OpenAiServer = {
  /** What a client takes as its base URL, `/v1` included. Stays the same while connections are refused. */
  readonly url: string;
  readonly port: number;
  readonly accounts: Accounts;
  readonly faults: Faults;
  readonly ledger: Ledger;
  setLatency(latency: Latency): void;
  setPoison(poison: readonly Poison[]): void;
  /** Cuts calls in service off. The second call does nothing. */
  close(): Promise<void>;
};

/** Longer than any client keeps an idle connection, so that none is closed just as a request comes in on it. */
const KEEP_ALIVE_MS = 120_000;

/** @throws when the port is taken, or an option of a fault is wrong. */
export async function startOpenAiServer(options: OpenAiServerOptions = {}): Promise<OpenAiServer> {
  const host = options.host ?? '127.0.0.1';
  const now = options.now ?? Date.now;
  let latency: Latency = options.latency ?? {};
  let poison: readonly Poison[] = options.poison ?? [];
  let port = options.port ?? 0;

  const deps: EmbeddingsDeps = {
    accounts: new Accounts(options.acceptAnyKey ?? false, options.defaultLimits ?? {}, now),
    faults: new Faults((open) => (open ? listen() : stopListening())),
    ledger: new Ledger(options.ledgerTexts ?? true, now),
    encoder: options.encoder === 'use' ? useEncoder() : hashEncoder,
    countTokens: options.tokens === 'exact' ? await loadExactTokens() : estimateTokens,
    tellsLimits: options.tellsLimits ?? true,
    latency: () => latency,
    poison: () => poison,
  };
  for (const key of options.keys ?? []) deps.accounts.put(key);
  for (const fault of options.faults ?? []) deps.faults.add(fault);

  const server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, (req, res) => {
    // A client that goes away in the middle is no failure of the server.
    serve(deps, req, res).catch(() => res.destroy());
  });

  function listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, host, () => {
        server.off('error', reject);
        const address = server.address();
        if (address !== null && typeof address === 'object') port = address.port;
        resolve();
      });
    });
  }

  function stopListening(): Promise<void> {
    return new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  }

  await listen();
  if (options.outage) await deps.faults.setOutage(options.outage);
  const { accounts, faults, ledger } = deps;
  return {
    url: `http://${host}:${port}/v1`,
    port,
    accounts,
    faults,
    ledger,
    setLatency: (given) => {
      latency = { ...latency, ...given };
    },
    setPoison: (given) => {
      poison = given;
    },
    close: stopListening,
  };
}

async function serve(deps: EmbeddingsDeps, req: IncomingMessage, res: ServerResponse): Promise<void> {
  const path = (req.url ?? '').split('?', 1)[0] ?? '';
  if (path === '/v1/embeddings' && req.method === 'POST') return serveEmbeddings(deps, req, res);

  req.resume();
  await send(res, replyToOther(deps, req, path), {});
}

function replyToOther(deps: EmbeddingsDeps, req: IncomingMessage, path: string): Reply {
  const [, name] = /^\/v1\/models(?:\/([^/]+))?$/.exec(path) ?? [null];
  if (req.method !== 'GET' || !/^\/v1\/models(\/|$)/.test(path)) {
    return errorReply({ ...invalidRequest(`Invalid URL (${req.method} ${path})`), status: 404 });
  }
  const key = bearerOf(req);
  const account = key === null ? null : deps.accounts.find(key);
  const sentOrganization = headerOf(req, 'openai-organization');
  const keyError = errorOfKey(account, { key, sentOrganization, model: null });
  if (keyError) return errorReply(keyError);

  if (name === undefined) {
    const data = [...MODELS.keys()].map(modelJson);
    return { kind: 'body', status: 200, body: JSON.stringify({ object: 'list', data }) };
  }
  if (name === null || !MODELS.has(name)) return errorReply(modelNotFound(name ?? ''));
  return { kind: 'body', status: 200, body: JSON.stringify(modelJson(name)) };
}

function modelJson(id: string) {
  return { id, object: 'model', created: 1_705_948_997, owned_by: 'system' };
}
