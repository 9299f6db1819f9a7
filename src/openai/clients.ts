import OpenAI, { APIError } from 'openai';
import { Agent, request } from 'undici';
import { endpointUrl, isOwnBaseUrl, type OwnBaseUrls } from '../core/base-url.ts';
import type { Credential } from '../core/credential.ts';
import { EmbedError } from '../core/failures.ts';
import { API_KEY_HEADER_DEFAULT } from '../core/request-headers.ts';
import { ERROR_BYTES_MAX, readAnswer, readErrorText } from './answer-body.ts';
import { publicConnector } from './public-connector.ts';

/** Clients kept. One costs 13 KB and 60 µs to make, so the number is about memory and not about speed. */
const CLIENTS_MAX = 500;
const CONNECT_TIMEOUT_MS = 10_000;

export type ClientsOptions = {
  readonly timeoutMs: number;
  /** Connections to each provider, shared by all keys. */
  readonly connectionsMax: number;
  /**
   * The addresses that the operator chose. All others are connected to only where they are of the public internet. Absent: no
   * address is refused.
   */
  readonly own?: OwnBaseUrls | undefined;
};

export type Clients = {
  /** The client of a credential; the same one as long as key, base URL and organisation are the same. */
  clientOf(credential: Credential): OpenAI;
  /** Closes the connections when the requests under way are done. Calling it again is fine. */
  close(): Promise<void>;
};

/** Makes one SDK client a credential, all of them over one pool of connections. */
export function createClients({ timeoutMs, connectionsMax, own }: ClientsOptions): Clients {
  const clients = new Map<string, OpenAI>();
  const settings = {
    connections: connectionsMax,
    allowH2: false, // over HTTP/2 the number of connections would cap nothing
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
  };
  const agent = new Agent({ ...settings, connect: { timeout: CONNECT_TIMEOUT_MS } });
  const publicAgent = new Agent({ ...settings, connect: publicConnector(CONNECT_TIMEOUT_MS) });
  const agentOf = ({ baseUrl }: Credential) =>
    own === undefined || isOwnBaseUrl(baseUrl, own) ? agent : publicAgent;
  let closed: Promise<void> | undefined;

  return {
    clientOf(credential) {
      const id = JSON.stringify([credential.fingerprint, credential.baseUrl, credential.organization]);
      const known = clients.get(id);
      clients.delete(id);
      // The fingerprint is cut, so the key decides whether this is the same key.
      const client =
        known?.apiKey === credential.apiKey
          ? known
          : createClient(credential, agentOf(credential), timeoutMs);
      clients.set(id, client);

      const oldest = clients.keys().next().value;
      if (clients.size > CLIENTS_MAX && oldest !== undefined) clients.delete(oldest);
      return client;
    },

    close() {
      closed ??= Promise.all([agent.close(), publicAgent.close()]).then(() => undefined);
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

/** The SDK puts a path behind whatever it is given, also behind a query: our own fetch puts in the real address. */
const BASE_URL_FOR_SDK = 'http://base.invalid';

function createClient(credential: Credential, agent: Agent, timeoutMs: number): OpenAI {
  return new Client({
    apiKey: credential.apiKey,
    baseURL: BASE_URL_FOR_SDK,
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

/** A success as the SDK passes it through: its body was read already, and stands beside it. */
export class ReadResponse extends Response {
  readonly received: Buffer;

  constructor(received: Buffer, init: ResponseInit) {
    super(null, init);
    this.received = received;
  }
}

/** What the fetch of a request takes beside what the SDK gives it. */
export type FetchOptions = {
  /** Most bytes that are read of a success. */
  readonly answerBytesMax: number;
};

/**
 * A fetch that sends what is listed here and nothing else, follows no redirect, and reads the body itself.
 *
 * The SDK adds what it finds in `OPENAI_CUSTOM_HEADERS` to every request, an `Authorization` included, and has no way to be
 * told not to; so the headers are made anew. It also reads bodies of any size.
 */
function guardedFetch(credential: Credential, agent: Agent): typeof globalThis.fetch {
  const { apiKey, organization, apiKeyHeader = API_KEY_HEADER_DEFAULT, baseUrl } = credential;
  const headers = {
    'user-agent': 'infill',
    ...credential.headers,
    accept: 'application/json',
    'content-type': 'application/json',
    ...(organization !== null && { 'openai-organization': organization }),
    [apiKeyHeader]: apiKeyHeader === API_KEY_HEADER_DEFAULT ? `Bearer ${apiKey}` : apiKey,
  };

  const guarded = async (
    sdkUrl: string,
    {
      body,
      signal,
      answerBytesMax = ERROR_BYTES_MAX,
    }: { body: string; signal: AbortSignal } & Partial<FetchOptions>,
  ) => {
    const url = endpointUrl(baseUrl, sdkUrl.slice(BASE_URL_FOR_SDK.length));
    const response = await request(url, { method: 'POST', body, signal, headers, dispatcher: agent });
    const { statusCode: status } = response;
    const init = { status, headers: headersOf(response.headers) };
    if (status >= 200 && status < 300)
      return new ReadResponse(await readAnswer(response, answerBytesMax), init);
    const text = await readErrorText(response);
    // The class of the web knows no status outside of these.
    if (status < 200 || status > 599) throw new EmbedError('answer_malformed', { status });
    return new Response(text, init);
  };
  // The SDK only ever passes a URL and a plain object.
  return guarded as unknown as typeof globalThis.fetch;
}

/** Without those that a server should not have sent: one bad header is no reason to lose an answer. */
function headersOf(received: Readonly<Record<string, string | string[] | undefined>>): Headers {
  const headers = new Headers();
  for (const [name, value = ''] of Object.entries(received)) {
    try {
      headers.set(name, String(value));
    } catch {}
  }
  return headers;
}
