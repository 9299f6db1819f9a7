import OpenAI, { APIError } from 'openai';
import { Agent, fetch } from 'undici';
import type { Credential } from '../core/credential.ts';

/** Clients kept. One costs 13 KB and 60 µs to make, so the number is about memory and not about speed. */
const CLIENTS_MAX = 500;
/** The largest answer that is read. 2,048 vectors of 3,072 dimensions written as decimals come to about 140 MB. */
const ANSWER_BYTES_MAX = 256 * 1024 * 1024;
const CONNECT_TIMEOUT_MS = 10_000;

export type ClientsOptions = {
  readonly timeoutMs: number;
  /** Connections to each provider, shared by all keys. */
  readonly connectionsMax: number;
};

export type Clients = {
  /** The client of a credential; the same one as long as key, base URL and organisation are the same. */
  clientOf(credential: Credential): OpenAI;
  /** Closes the connections when the requests under way are done. Calling it again is fine. */
  close(): Promise<void>;
};

/** Makes one SDK client a credential, all of them over one pool of connections. */
export function createClients({ timeoutMs, connectionsMax }: ClientsOptions): Clients {
  const clients = new Map<string, OpenAI>();
  const agent = new Agent({
    connections: connectionsMax,
    allowH2: false, // over HTTP/2 the number of connections would cap nothing
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
    connect: { timeout: CONNECT_TIMEOUT_MS },
    maxResponseSize: ANSWER_BYTES_MAX,
  });
  let closed: Promise<void> | undefined;

  return {
    clientOf(credential) {
      const id = JSON.stringify([credential.fingerprint, credential.baseUrl, credential.organization]);
      const known = clients.get(id);
      clients.delete(id);
      // The fingerprint is cut, so the key decides whether this is the same key.
      const client = known?.apiKey === credential.apiKey ? known : createClient(credential, agent, timeoutMs);
      clients.set(id, client);

      const oldest = clients.keys().next().value;
      if (clients.size > CLIENTS_MAX && oldest !== undefined) clients.delete(oldest);
      return client;
    },

    close() {
      closed ??= agent.close();
      return closed;
    },
  };
}

/**
 * The SDK, except that its errors hold the whole body of an answer.
 *
 * It keeps what stands under `error` alone, and so loses the words of `{"error":"Bad Request","message":"…"}` and of a bare
 * string.
 */
class Client extends OpenAI {
  protected override makeStatusError(
    status: number,
    body: object,
    message: string | undefined,
    headers: Headers,
  ): APIError {
    return APIError.generate(status, { error: body }, message, headers);
  }
}

function createClient(credential: Credential, agent: Agent, timeoutMs: number): OpenAI {
  return new Client({
    apiKey: credential.apiKey,
    baseURL: credential.baseUrl,
    // Null, not absent: for what is absent the SDK looks into the environment, which is the platform's and not the tenant's.
    organization: credential.organization,
    project: null,
    adminAPIKey: null,
    webhookSecret: null,
    logLevel: 'off', // its debug log holds headers
    maxRetries: 0, // the queue retries, and two policies multiply
    timeout: timeoutMs,
    fetch: guardedFetch(credential, agent),
  });
}

/**
 * A fetch that sends what is listed here and nothing else, and follows no redirect.
 *
 * The SDK adds what it finds in `OPENAI_CUSTOM_HEADERS` to every request, an `Authorization` included, and has no way to be
 * told not to; so the headers are made anew.
 */
function guardedFetch({ apiKey, organization }: Credential, agent: Agent): typeof globalThis.fetch {
  const headers = {
    accept: 'application/json',
    authorization: `Bearer ${apiKey}`,
    'content-type': 'application/json',
    'user-agent': 'infill',
    ...(organization !== null && { 'openai-organization': organization }),
  };

  const guarded = (
    url: string,
    { method, body, signal }: { method: string; body: string; signal: AbortSignal },
  ) => fetch(url, { method, body, signal, headers, redirect: 'manual', dispatcher: agent });
  // The SDK only ever passes a URL and a plain object, and reads of the answer what undici's has.
  return guarded as unknown as typeof globalThis.fetch;
}
