import assert from 'node:assert/strict';
import type OpenAI from 'openai';
import type { OwnBaseUrls } from '../core/base-url.ts';
import type { Credential } from '../core/credential.ts';
import { EmbedError } from '../core/failures.ts';
import type { ProviderLimits } from '../core/provider-limits.ts';
import type { SendDimensions, Target } from '../core/target.ts';
import { answerBytesMax, parseAnswer } from './answer-body.ts';
import { checkAnswer } from './answer-checks.ts';
import { createClients, type FetchOptions, ReadResponse } from './clients.ts';
import { errorInAnswer, type Sent, toEmbedError } from './errors.ts';
import { limitsOf } from './headers.ts';
import { type RequestForm, ServerTraits } from './server-traits.ts';

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

/** One plain word, asked for as a target's texts are: what a key is tried with. */
export function trialRequest({ model, dimensions, sendDimensions, request }: Target): EmbedRequest {
  return { texts: ['hello'], model, dimensions, sendDimensions, fields: request };
}

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
   * Embeds texts with one key in one request. Retries nothing: a failure that is marked `again` is for the caller to repeat, and
   * the request then has another form.
   *
   * @throws {EmbedError} for every failure listed in core/failures.ts; `shutting_down` when `signal` aborts, whatever its reason.
   */
  embed(credential: Credential, request: EmbedRequest, signal: AbortSignal): Promise<EmbedAnswer>;
  /** The most inputs that the server behind a credential is known to take; absent or infinite where nothing is known. */
  inputsMaxOf?(credential: Credential, asked: Asked): number;
  /** Notes that a request passed in parts of `inputsMax` after it was refused, or had failed, as a whole. */
  learnInputsMax?(
    credential: Credential,
    asked: Asked,
    inputsMax: number,
    source: 'refused' | 'failed',
  ): void;
  /** Changes the form of the next requests, when a plain word was refused. False when no other form is left. */
  tryOtherForm?(credential: Credential, asked: Asked): boolean;
};

/** What of a request a server's habits may depend on. */
export type Asked = Pick<EmbedRequest, 'model' | 'sendDimensions'>;

export type OpenAiEmbedderOptions = {
  /** From the call to the last byte of the answer, the wait for a free connection included. */
  readonly timeoutMs?: number;
  /** Connections to each provider; give it at least as many as batches run at once. */
  readonly connectionsMax: number;
  /** The addresses that the operator chose; all others must be of the public internet. Absent: no address is refused. */
  readonly own?: OwnBaseUrls;
};

/** Makes the embedder over the OpenAI SDK, for OpenAI and whatever speaks its language. Close it when done. */
export function createOpenAiEmbedder({
  timeoutMs = 60_000,
  connectionsMax,
  own,
}: OpenAiEmbedderOptions): Embedder & { close(): Promise<void> } {
  const clients = createClients({ timeoutMs, connectionsMax, own });
  const traits = new ServerTraits(sendsDimensions);

  return {
    async embed(credential, request, signal) {
      const sent = { secrets: secretsIn(credential), texts: request.texts };
      assertSendable(credential);
      const form = traits.formOf(credential, request);
      const deadline = startDeadline(timeoutMs, signal);
      try {
        const isProven = traits.isProven(credential, request);
        const client = clients.clientOf(credential);
        const answer = await send(
          client,
          { ...request, model: credential.model ?? request.model, form, isProven },
          sent,
          deadline.signal,
        );
        traits.noteAnswer(credential, request, form);
        return answer;
      } catch (error) {
        if (signal.aborted) throw new EmbedError('shutting_down');
        const translated = toEmbedError(error, sent, Date.now());
        // What arrived in time counts, even if the deadline cut off the rest of an error's body.
        const answered = translated instanceof EmbedError && translated.status !== undefined;
        if (deadline.signal.aborted && !answered) throw new EmbedError('timed_out');
        throw translated instanceof EmbedError
          ? learned(traits, credential, request, form, translated)
          : translated;
      } finally {
        deadline.stop();
      }
    },
    inputsMaxOf: (credential, asked) => traits.inputsMaxOf(credential, asked),
    learnInputsMax: (...learnt) => traits.learnInputsMax(...learnt),
    tryOtherForm: (credential, asked) => traits.tryOtherForm(credential, asked),
    close: () => clients.close(),
  };
}

/** Whether a model takes the parameter `dimensions`; OpenAI refuses it for any but the third family. */
export function sendsDimensions(model: string): boolean {
  return /(^|\/)text-embedding-3-/.test(model);
}

/** Remembers what a failure says about the server. Returns it, marked when the request may be sent again in another form. */
function learned(
  traits: ServerTraits,
  credential: Credential,
  request: EmbedRequest,
  form: RequestForm,
  error: EmbedError,
): EmbedError {
  if (error.code === 'request_too_large' && error.inputsMax !== undefined)
    traits.learnInputsMax(credential, request, error.inputsMax, 'stated');
  return isOtherFormWanted(traits, credential, request, form, error)
    ? new EmbedError(error.code, { ...error, again: true })
    : error;
}

/** Failures as which a refusal of the form may come; some servers answer it with a 500. */
const FORM_REFUSALS: readonly string[] = ['request_invalid', 'input_rejected', 'provider_failed'];

function isOtherFormWanted(
  traits: ServerTraits,
  credential: Credential,
  request: EmbedRequest,
  form: RequestForm,
  { code, providerMessage = '', providerCode = '', param = '' }: EmbedError,
): boolean {
  if (code === 'answer_wrong_dimensions') return traits.wantDimensions(credential, request, form);
  if (!FORM_REFUSALS.includes(code)) return false;
  const words = `${providerMessage} ${providerCode} ${param}`;
  if (/encoding[_ ]?format|base64/i.test(words)) return traits.refuseBase64(credential, request, form);
  if (/dimension|matryoshka/i.test(words)) return traits.refuseDimensions(credential, request, form);
  return false;
}

type Sending = EmbedRequest & { readonly form: RequestForm; readonly isProven: boolean };

/** Vectors of a server that was not asked for a length yet may be longer than the column: that is to be told from a broken answer. */
const DIMENSIONS_UNPROVEN = 4_096;

async function send(
  client: OpenAI,
  { texts, model, dimensions, fields, form, isProven }: Sending,
  sent: Sent,
  signal: AbortSignal,
): Promise<EmbedAnswer> {
  // Not by the SDK's method for it: that asks for base64 whenever no format is named.
  const response = await client
    .post('/embeddings', {
      body: {
        ...fields,
        model,
        input: [...texts],
        ...(form.base64 && { encoding_format: 'base64' }),
        ...(form.dimensions && { dimensions }),
      },
      signal,
      fetchOptions: {
        answerBytesMax: answerBytesMax({
          inputs: texts.length,
          dimensions: isProven ? dimensions : Math.max(dimensions, DIMENSIONS_UNPROVEN),
        }),
      } satisfies FetchOptions as object,
    })
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

/** Values of headers that are shorter are words like "on", which a message may hold by itself. */
const SECRET_LENGTH_MIN = 8;

function secretsIn({ apiKey, headers = {} }: Credential): readonly string[] {
  return [apiKey, ...Object.values(headers).filter((value) => value.length >= SECRET_LENGTH_MIN)];
}

/** A header that cannot be sent makes fetch throw an error that quotes it, key and all; so nothing like that gets there. */
function assertSendable({ apiKey, organization, headers = {} }: Credential): void {
  const sendable = /^[\x21-\x7e]+$/;
  if (!Object.values(headers).every((value) => /^[\x20-\x7e]+$/.test(value)))
    throw new EmbedError('key_invalid');
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
