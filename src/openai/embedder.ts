import assert from 'node:assert/strict';
import type OpenAI from 'openai';
import type { Credential } from '../core/credential.ts';
import { EmbedError } from '../core/failures.ts';
import type { ProviderLimits } from '../core/provider-limits.ts';
import type { SendDimensions } from '../core/target.ts';
import { answerBytesMax, parseAnswer } from './answer-body.ts';
import { checkAnswer } from './answer-checks.ts';
import { createClients, type FetchOptions, ReadResponse } from './clients.ts';
import { errorInAnswer, toEmbedError } from './errors.ts';
import { limitsOf } from './headers.ts';

/** One API call: texts that are not empty, and what they are to become. */
export type EmbedRequest = {
  readonly texts: readonly string[];
  readonly model: string;
  readonly dimensions: number;
  /** Whether the request names the dimensions; absent or `auto`: for models of which OpenAI says so. */
  readonly sendDimensions?: SendDimensions | undefined;
  /** Further fields. */
  readonly fields?: Readonly<Record<string, unknown>> | undefined;
};

export type EmbedAnswer = {
  /** One vector a text, in the order of the texts; every one checked. */
  readonly vectors: readonly Float32Array[];
  /** What the provider bills; 0 if it does not say. */
  readonly tokens: number;
  readonly requestId: string | null;
  /** Whom the provider bills, by its own name for it; keys of one organisation share its limits. */
  readonly organization: string | null;
  readonly limits: ProviderLimits;
};

/** The only thing that the backfill knows about a provider. */
export type Embedder = {
  /**
   * Embeds texts with one key in one request. Retries nothing.
   *
   * @throws {EmbedError} for every failure listed in core/failures.ts; `shutting_down` when `signal` aborts, whatever its reason.
   */
  embed(credential: Credential, request: EmbedRequest, signal: AbortSignal): Promise<EmbedAnswer>;
};

export type OpenAiEmbedderOptions = {
  /** From the call to the last byte of the answer, the wait for a free connection included. */
  readonly timeoutMs?: number;
  /** Connections to each provider; give it at least as many as batches run at once. */
  readonly connectionsMax: number;
};

/** Makes the embedder over the OpenAI SDK, for OpenAI and whatever speaks its language. Close it when done. */
export function createOpenAiEmbedder({
  timeoutMs = 60_000,
  connectionsMax,
}: OpenAiEmbedderOptions): Embedder & { close(): Promise<void> } {
  const clients = createClients({ timeoutMs, connectionsMax });

  return {
    async embed(credential, request, signal) {
      const sent = { apiKey: credential.apiKey, texts: request.texts };
      assertSendable(credential);
      const deadline = startDeadline(timeoutMs, signal);
      try {
        return await send(clients.clientOf(credential), request, sent, deadline.signal);
      } catch (error) {
        if (signal.aborted) throw new EmbedError('shutting_down');
        const translated = toEmbedError(error, sent, Date.now());
        // What arrived in time counts, even if the deadline cut off the rest of an error's body.
        const answered = translated instanceof EmbedError && translated.status !== undefined;
        throw deadline.signal.aborted && !answered ? new EmbedError('timed_out') : translated;
      } finally {
        deadline.stop();
      }
    },

    close: () => clients.close(),
  };
}

/** Whether a model takes the parameter `dimensions`; OpenAI refuses it for any but the third family. */
export function sendsDimensions(model: string): boolean {
  return /(^|\/)text-embedding-3-/.test(model);
}

async function send(
  client: OpenAI,
  { texts, model, dimensions, sendDimensions = 'auto', fields }: EmbedRequest,
  sent: { readonly apiKey: string; readonly texts: readonly string[] },
  signal: AbortSignal,
): Promise<EmbedAnswer> {
  const namesDimensions = sendDimensions === 'auto' ? sendsDimensions(model) : sendDimensions === 'always';
  const response = await client.embeddings
    .create(
      {
        ...fields,
        model,
        input: [...texts],
        // Asked for by name, the SDK leaves the answer as it came; otherwise it would make arrays of numbers of it.
        encoding_format: 'base64',
        ...(namesDimensions && { dimensions }),
      },
      {
        signal,
        fetchOptions: {
          answerBytesMax: answerBytesMax({ inputs: texts.length, dimensions }),
        } satisfies FetchOptions as object,
      },
    )
    .asResponse();
  assert(response instanceof ReadResponse, 'our own fetch answers with bodies that it has read');
  const data = parseAnswer(response.received, dimensions);

  const failure = errorInAnswer(data, sent, response.headers, Date.now());
  if (failure !== undefined) throw failure;

  const requestId = response.headers.get('x-request-id');
  const limits = limitsOf(response.headers);
  const details = { status: response.status, requestId: requestId ?? undefined, limits };
  const { vectors, tokens } = checkAnswer(data, { inputs: texts.length, dimensions }, details);
  return { vectors, tokens, requestId, organization: response.headers.get('openai-organization'), limits };
}

/** A header that cannot be sent makes fetch throw an error that quotes it, key and all; so nothing like that gets there. */
function assertSendable({ apiKey, organization }: Credential): void {
  const sendable = /^[\x21-\x7e]+$/;
  if (!sendable.test(apiKey)) throw new EmbedError('key_invalid');
  if (organization !== null && !sendable.test(organization)) throw new EmbedError('key_invalid');
}

/** A signal that aborts with `signal` or after `timeoutMs`, and leaves nothing behind once stopped. */
function startDeadline(timeoutMs: number, signal: AbortSignal): { signal: AbortSignal; stop(): void } {
  const controller = new AbortController();
  const abort = () => controller.abort();
  const timer = setTimeout(abort, timeoutMs);
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { once: true });

  return {
    signal: controller.signal,
    stop() {
      clearTimeout(timer);
      signal.removeEventListener('abort', abort);
    },
  };
}
