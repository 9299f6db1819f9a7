/** A provider on a port of its own that answers as a test says, and an embedder that talks to it. */
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { inspect } from 'node:util';
import { onTestFinished } from 'vitest';
import type { Credential } from '../../src/core/credential.ts';
import { EmbedError } from '../../src/core/failures.ts';
import {
  createOpenAiEmbedder,
  type EmbedRequest,
  type OpenAiEmbedderOptions,
} from '../../src/openai/embedder.ts';

export const KEY = 'sk-tenant-1-0123456789abcdef';
export const REQUEST = {
  texts: ['first', 'second'],
  model: 'text-embedding-3-small',
  dimensions: 4,
} satisfies EmbedRequest;

export type Seen = {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Record<string, unknown>;
};
export type Reply = (response: ServerResponse, seen: Seen) => void;

/** A provider that answers every request with `reply`, and remembers what it was sent. */
export async function startProvider(reply: Reply) {
  const seen: Seen[] = [];
  const sockets = new Set<unknown>();
  const server = createServer(async (request: IncomingMessage, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const one = {
      path: request.url ?? '',
      headers: request.headers,
      body: JSON.parse(Buffer.concat(chunks).toString()),
    };
    seen.push(one);
    reply(response, one);
  });
  server.on('connection', (socket) => sockets.add(socket));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { seen, sockets, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1` };
}

export async function setupEmbedder(reply: Reply, options: Partial<OpenAiEmbedderOptions> = {}) {
  const provider = await startProvider(reply);
  const embedder = createOpenAiEmbedder({ connectionsMax: 4, ...options });
  onTestFinished(() => embedder.close());
  const credential: Credential = {
    apiKey: KEY,
    baseUrl: provider.url,
    organization: null,
    fingerprint: 'f1',
    owner: 'tenant',
    requestsPerMinute: null,
    tokensPerMinute: null,
    weight: 1,
  };
  const embed = (
    request: Partial<EmbedRequest> = {},
    other: Partial<Credential> = {},
    signal = new AbortController().signal,
  ) => embedder.embed({ ...credential, ...other }, { ...REQUEST, ...request }, signal);
  const failure = async (...args: Parameters<typeof embed>): Promise<EmbedError> => {
    const error = await embed(...args).catch((thrown: unknown) => thrown);
    if (!(error instanceof EmbedError)) throw new Error(`no EmbedError: ${inspect(error)}`);
    return error;
  };
  return { ...provider, embedder, embed, failure };
}

export function vectorOf(text: string, dimensions: number): Float32Array {
  return Float32Array.from({ length: dimensions }, (_, index) => text.length + index / 8);
}

export function send(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(text);
}

export const embedAll: Reply = (response, { body }) => {
  const texts = body.input as string[];
  const data = texts.map((text, index) => ({
    index,
    embedding: Buffer.from(vectorOf(text, 4).buffer).toString('base64'),
  }));
  send(
    response,
    200,
    { data, usage: { total_tokens: 12 } },
    {
      'x-request-id': 'req_1',
      'openai-organization': 'org-tenant-1',
      'x-ratelimit-limit-requests': '3000',
      'x-ratelimit-remaining-requests': '2999',
      'x-ratelimit-reset-requests': '20ms',
      'x-ratelimit-limit-tokens': '1000000',
      'x-ratelimit-remaining-tokens': '999988',
      'x-ratelimit-reset-tokens': '6m0s',
    },
  );
};

export function refuse(status: number, error: unknown, headers: Record<string, string> = {}): Reply {
  return (response) => send(response, status, typeof error === 'string' ? error : { error }, headers);
}
