import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Stands in front of the provider, so that a test can change the world while a call is in flight. */
export type ProviderGate = {
  /** The provider's base URL, by way of the gate. */
  readonly url: string;
  /**
   * From now on, calls `meanwhile` once for the first request that holds `text`, after the provider has answered and before
   * the answer is passed on.
   */
  onAnswerTo(text: string, meanwhile: () => Promise<unknown>): void;
  close(): Promise<void>;
};

type Rule = { readonly text: string; readonly meanwhile: () => Promise<unknown> };

export async function startProviderGate(providerUrl: string): Promise<ProviderGate> {
  const { origin, pathname } = new URL(providerUrl);
  const rules: Rule[] = [];

  const server = createServer((request, response) => {
    relay(origin, rules, request, response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;

  return {
    url: `http://127.0.0.1:${port}${pathname}`,
    onAnswerTo: (text, meanwhile) => void rules.push({ text, meanwhile }),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function relay(
  origin: string,
  rules: Rule[],
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const body = Buffer.concat(chunks);
  const answer = await fetch(`${origin}${request.url}`, {
    method: request.method ?? 'POST',
    headers: headersToPass(request),
    body,
  });
  const answered = Buffer.from(await answer.arrayBuffer());

  const found = rules.findIndex(({ text }) => body.includes(JSON.stringify(text).slice(1, -1)));
  const [rule] = found === -1 ? [] : rules.splice(found, 1);
  await rule?.meanwhile();

  const headers = [...answer.headers].filter(([name]) => !HOP_HEADERS.includes(name));
  response.writeHead(answer.status, { ...Object.fromEntries(headers), 'content-length': answered.length });
  response.end(answered);
}

/** Headers of one connection, not of the message. */
const HOP_HEADERS = ['connection', 'keep-alive', 'transfer-encoding', 'content-length', 'content-encoding'];

function headersToPass({ headers }: IncomingMessage): Record<string, string> {
  const own = [...HOP_HEADERS, 'host', 'accept-encoding', 'expect'];
  return Object.fromEntries(
    Object.entries(headers).flatMap(([name, value]) =>
      typeof value === 'string' && !own.includes(name) ? [[name, value]] : [],
    ),
  );
}
