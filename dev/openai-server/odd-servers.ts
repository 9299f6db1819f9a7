/**
 * Servers that call themselves OpenAI-compatible, and are in part: each has habits of its own, under a path of its own on one port.
 *
 * They bill nothing and limit nothing; `calls` tells what they were asked.
 */
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { hashEmbedding } from './encoders.ts';

/** An answer in place of vectors. A body that is no string is written as JSON. */
export type OddReply = {
  readonly status: number;
  readonly body: unknown;
  readonly headers?: Readonly<Record<string, string>> | undefined;
};

export type Habits = {
  /** `ignores`: answers with numbers. */
  readonly base64?: 'takes' | 'ignores' | OddReply;
  readonly index?: 'right' | 'missing' | 'first_missing' | 'string' | 'zero';
  /** Null: the answer has none. */
  readonly contentType?: string | null;
  /** `ignores`: makes vectors of `nativeDimensions`. */
  readonly dimensions?: 'takes' | 'ignores' | OddReply;
  /** Of vectors for which no length was asked, or could be. Absent: as many as `dimensions` of the target. */
  readonly nativeDimensions?: number;
  /** Refuses requests of more inputs. */
  readonly inputsMax?: { readonly max: number } & OddReply;
  /** Leaves out the vectors of the inputs behind so many. */
  readonly vectorsMax?: number;
  /** Refuses requests with a text that holds the marker. */
  readonly rows?: readonly ({ readonly marker: string } & OddReply)[];
  /** Refuses everything. */
  readonly always?: OddReply;
  /** Refuses so many requests at first. */
  readonly atFirst?: { readonly times: number } & OddReply;
  /** Refuses every so many-th request, whatever it holds. */
  readonly sometimes?: { readonly every: number } & OddReply;
  /** Refuses requests without this header. */
  readonly needsHeader?: readonly [name: string, value: string];
  readonly needsQuery?: string;
  readonly needsModel?: string;
  /** Spoils the vector of each text that holds the marker. */
  readonly spoils?: { readonly marker: string; readonly embedding: unknown };
  /** Null leaves usage out. */
  readonly usage?: null;
  /** Further fields of the answer. */
  readonly extra?: Readonly<Record<string, unknown>>;
};

export type OddCall = {
  readonly texts: readonly string[];
  readonly body: Readonly<Record<string, unknown>>;
  readonly headers: IncomingHttpHeaders;
  readonly path: string;
  readonly status: number;
};

export type OddServers = {
  readonly port: number;
  /** The base URL of a server. */
  urlOf(name: string): string;
  /** What a server was asked, oldest first. */
  callsOf(name: string): readonly OddCall[];
  close(): Promise<void>;
};

export type OddServersOptions = {
  readonly habits: Readonly<Record<string, Habits>>;
  /** Of the target. */
  readonly dimensions: number;
  /** Whose vectors the servers make, whatever model they are asked for. */
  readonly model: string;
};

/** Starts all servers on one free port; `close` ends them. */
export async function startOddServers({ habits, dimensions, model }: OddServersOptions): Promise<OddServers> {
  const calls = new Map<string, OddCall[]>(Object.keys(habits).map((name) => [name, []]));
  const server = createServer(async (request, response) => {
    const name = (request.url ?? '').split('/')[1] ?? '';
    const own = calls.get(name);
    const habit = habits[name];
    if (own === undefined || habit === undefined) return void response.writeHead(404).end();
    const body = await readJson(request);
    const texts = [body.input].flat().map(String);
    const given: Asked = { texts, body, request, number: own.length + 1, dimensions, model };
    const reply = replyOf(habit, given);
    own.push({ texts, body, headers: request.headers, path: request.url ?? '', status: reply.status });
    write(response, reply, habit);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    port,
    urlOf: (name) => `http://127.0.0.1:${port}/${name}/v1`,
    callsOf: (name) => calls.get(name) ?? [],
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

type Asked = {
  readonly texts: readonly string[];
  readonly body: Readonly<Record<string, unknown>>;
  readonly request: IncomingMessage;
  readonly number: number;
  readonly dimensions: number;
  readonly model: string;
};

function replyOf(habits: Habits, asked: Asked): OddReply {
  const { texts, body } = asked;
  return refusalOf(habits, asked) ?? { status: 200, body: answerOf(habits, asked, texts, body) };
}

function refusalOf(habits: Habits, { texts, body, request, number }: Asked): OddReply | undefined {
  const {
    base64,
    dimensions,
    inputsMax,
    rows = [],
    always,
    atFirst,
    sometimes,
    needsHeader,
    needsQuery,
    needsModel,
  } = habits;
  if (always !== undefined) return always;
  if (atFirst !== undefined && number <= atFirst.times) return atFirst;
  if (sometimes !== undefined && number % sometimes.every === 0) return sometimes;
  if (needsHeader !== undefined && request.headers[needsHeader[0]] !== needsHeader[1])
    return { status: 401, body: { error: { message: 'Access denied due to missing subscription key.' } } };
  if (needsQuery !== undefined && !(request.url ?? '').endsWith(`?${needsQuery}`))
    return { status: 404, body: { error: { code: '404', message: 'Resource not found' } } };
  if (needsModel !== undefined && body.model !== needsModel)
    return { status: 404, body: { error: { message: `The model ${String(body.model)} does not exist` } } };
  if (typeof base64 === 'object' && body.encoding_format === 'base64') return base64;
  if (typeof dimensions === 'object' && body.dimensions !== undefined) return dimensions;
  if (inputsMax !== undefined && texts.length > inputsMax.max) return inputsMax;
  return rows.find(({ marker }) => texts.some((text) => text.includes(marker)));
}

function answerOf(
  {
    base64 = 'takes',
    dimensions: takesDimensions = 'takes',
    nativeDimensions,
    index = 'right',
    vectorsMax,
    spoils,
    usage,
    extra,
  }: Habits,
  { dimensions, model }: Asked,
  texts: readonly string[],
  body: Readonly<Record<string, unknown>>,
): object {
  const isAsked = takesDimensions === 'takes' && typeof body.dimensions === 'number';
  const length = isAsked ? Number(body.dimensions) : (nativeDimensions ?? dimensions);
  const data = texts.slice(0, vectorsMax).map((text, place) => {
    const vector = hashEmbedding(text, model, length);
    const written =
      base64 === 'takes' && body.encoding_format === 'base64'
        ? Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength).toString('base64')
        : [...vector];
    const embedding = spoils !== undefined && text.includes(spoils.marker) ? spoils.embedding : written;
    return { object: 'embedding', ...indexOf(index, place), embedding };
  });
  const tokens = texts.length;
  return { object: 'list', data, ...(usage !== null && { usage: { total_tokens: tokens } }), ...extra };
}

function indexOf(habit: NonNullable<Habits['index']>, place: number): object {
  switch (habit) {
    case 'missing':
      return {};
    case 'first_missing':
      return place === 0 ? {} : { index: place };
    case 'string':
      return { index: String(place) };
    case 'zero':
      return { index: 0 };
    case 'right':
      return { index: place };
  }
}

function write(response: ServerResponse, { status, body, headers }: OddReply, { contentType }: Habits): void {
  const type = contentType === undefined ? 'application/json' : contentType;
  response.writeHead(status, { ...(type !== null && { 'content-type': type }), ...headers });
  response.end(typeof body === 'string' ? body : JSON.stringify(body));
}

async function readJson(request: IncomingMessage): Promise<Readonly<Record<string, unknown>>> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const parsed: unknown = JSON.parse(Buffer.concat(chunks).toString() || '{}');
  return typeof parsed === 'object' && parsed !== null ? { ...parsed } : {};
}
