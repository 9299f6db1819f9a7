/** `POST /v1/embeddings`: reads the request, judges it as OpenAI would, and answers, unless a fault says otherwise. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Account, Accounts } from './accounts.ts';
import { embeddingsBody } from './answers.ts';
import type { Encoder } from './encoders.ts';
import * as errors from './errors.ts';
import { type Faults, IMMEDIATE } from './faults.ts';
import type { Ledger, LedgerEntry } from './ledger.ts';
import { type Buckets, formatDuration, limitHeaders, type Refusal } from './limits.ts';
import { errorReply, pause, type Reply, retryHeaders, send } from './reply.ts';
import type { FaultAction, Latency, Poison } from './settings.ts';
import type { CountTokens } from './tokens.ts';
import { errorOfContent, peek, readRequest } from './validation.ts';

export type EmbeddingsDeps = {
  readonly accounts: Accounts;
  readonly faults: Faults;
  readonly ledger: Ledger;
  readonly encoder: Encoder;
  readonly countTokens: CountTokens;
  readonly tellsLimits: boolean;
  /** Asked at every call: both may change while the server runs. */
  readonly latency: () => Latency;
  readonly poison: () => readonly Poison[];
};

/** A request of 300,000 tokens is at most a few MB; what is beyond this is refused with 413. */
const BODY_BYTES_MAX = 64 * 1024 * 1024;

export async function serveEmbeddings(
  deps: EmbeddingsDeps,
  req: IncomingMessage,
  res: ServerResponse,
): Promise<void> {
  const startedMs = performance.now();
  const entry = deps.ledger.open({
    key: bearerOf(req),
    sentOrganization: headerOf(req, 'openai-organization'),
    sentProject: headerOf(req, 'openai-project'),
  });
  try {
    const account = entry.key === null ? null : deps.accounts.find(entry.key);
    entry.organization = account?.organization ?? null;

    const reply = await decide(deps, entry, account, await readBody(req), res);
    const status = await send(res, reply, {
      'x-request-id': `req_${entry.call.toString(16).padStart(16, '0')}`,
      'openai-processing-ms': String(Math.round(performance.now() - startedMs)),
      'openai-version': '2020-10-01',
      ...(account && { 'openai-organization': account.organization }),
    });
    deps.ledger.close(entry, status, reply.kind === 'body' ? (reply.code ?? null) : null);
  } finally {
    // Whatever ended the call otherwise (the client went away while it was sending): no answer left.
    deps.ledger.close(entry, 0);
  }
}

async function decide(
  deps: EmbeddingsDeps,
  entry: LedgerEntry,
  account: Account | null,
  body: Buffer | null,
  res: ServerResponse,
): Promise<Reply> {
  if (body === null)
    return errorReply({ ...errors.invalidRequest('Request body is too large.'), status: 413 });
  const parsed = parseJson(body);
  const { model, texts } = peek(parsed);
  entry.model = model;
  deps.ledger.noteTexts(entry, texts);
  if (deps.faults.outage !== 'off') return errorReply(errors.unavailable());

  const { call, key, organization } = entry;
  const { delayMs, action } = deps.faults.take({ call, key, organization, model, texts });
  entry.fault = action?.kind ?? (delayMs > 0 ? 'delay' : null);
  await pause(res, delayMs);
  if (action && IMMEDIATE.has(action.kind)) {
    const buckets = account && deps.accounts.spendFailed(account, model ?? '');
    return faultReply(action, buckets ? headersOf(deps, buckets) : {});
  }

  const keyError = errorOfKey(account, entry);
  if (keyError || account === null) return errorReply(keyError ?? errors.missingKey());
  const shape = readRequest(parsed, deps.encoder.dimensionsMax);
  if ('error' in shape) {
    return errorReply(shape.error, headersOf(deps, deps.accounts.spendFailed(account, model ?? '')));
  }
  const { request } = shape;
  entry.dimensions = request.dimensions;
  const tokens = request.texts.map(deps.countTokens);
  const total = tokens.reduce((sum, count) => sum + count, 0);
  entry.tokens = total;

  const { after, refusal } = deps.accounts.spend(account, request.model, total);
  const headers = headersOf(deps, after);
  if (refusal && !deps.tellsLimits) return errorReply(errors.errorOfStatus(429));
  if (refusal) return limitReply(refusal, account, request.model, headers);
  const contentError = errorOfContent(request.texts, tokens, deps.poison());
  if (contentError) return errorReply(contentError, headers);

  entry.billed = true;
  const { fixedMs = 0, perTokenMs = 0 } = deps.latency();
  await pause(res, fixedMs + perTokenMs * total);
  const vectors = await deps.encoder.encode(request.texts, request.model, request.dimensions);
  const written = embeddingsBody(request, vectors, total, action);
  const ofModel = { ...headers, 'openai-model': request.model };
  if (action?.kind === 'cut') return { kind: 'cut', body: written, headers: ofModel };
  return { kind: 'body', status: 200, body: written, headers: ofModel };
}

/** Why this key gets nothing; null for a key in good standing. */
export function errorOfKey(
  account: Account | null,
  { key, sentOrganization, model }: Pick<LedgerEntry, 'key' | 'sentOrganization' | 'model'>,
): errors.ApiError | null {
  if (key === null) return errors.missingKey();
  if (account === null) return errors.invalidKey(key);
  switch (account.state) {
    case 'revoked':
      return errors.invalidKey(key);
    case 'quota_exhausted':
      return errors.quotaExhausted();
    case 'model_unavailable':
      return errors.modelUnavailable(account.organization, model ?? '');
    case 'ip_refused':
      return errors.ipRefused();
    case 'ok':
      if (account.named && sentOrganization !== null && sentOrganization !== account.organization) {
        return errors.mismatchedOrganization();
      }
      return null;
  }
}

function headersOf({ tellsLimits }: EmbeddingsDeps, buckets: Buckets): Record<string, string> {
  return tellsLimits ? limitHeaders(buckets) : {};
}

function limitReply(
  { of, tooLarge, limit, used, requested, waitMs }: Refusal,
  { organization }: Account,
  model: string,
  headers: Record<string, string>,
): Reply {
  const what = of === 'tokens' ? 'tokens per min (TPM)' : 'requests per min (RPM)';
  const where = `${model} in organization ${organization} on ${what}`;
  const message = tooLarge
    ? `Request too large for ${where}: Limit ${limit}, Requested ${requested}. The input or output tokens must be reduced in order to run successfully.`
    : `Rate limit reached for ${where}: Limit ${limit}, Used ${used}, Requested ${requested}. Please try again in ${formatDuration(waitMs)}.`;
  const error = { status: 429, message, type: of, param: null, code: 'rate_limit_exceeded' };
  return errorReply(error, tooLarge ? headers : { ...headers, ...retryHeaders(waitMs) });
}

function faultReply(action: FaultAction, limits: Record<string, string>): Reply {
  switch (action.kind) {
    case 'status': {
      const { kind: _kind, status, headers, retryAfterMs, ...given } = action;
      const retry = retryAfterMs === undefined ? {} : retryHeaders(retryAfterMs);
      return errorReply(errors.reworded(errors.errorOfStatus(status), given), {
        ...limits,
        ...retry,
        ...headers,
      });
    }
    case 'html':
      return {
        kind: 'body',
        status: action.status,
        contentType: 'text/html; charset=utf-8',
        body: `<html><head><title>${action.status}</title></head><body><center><h1>gateway</h1></center></body></html>`,
      };
    case 'error_in_200': {
      const error = errors.reworded(errors.unavailable(), { message: action.message });
      return { kind: 'body', status: 200, body: errors.errorBody(error), headers: limits };
    }
    case 'redirect':
      return { kind: 'body', status: action.status, body: '', headers: { location: action.location } };
    case 'reset':
      return { kind: 'reset' };
    default:
      return { kind: 'hang' };
  }
}

export function bearerOf(req: IncomingMessage): string | null {
  const [, key] = /^Bearer\s+(.+)$/i.exec(req.headers.authorization ?? '') ?? [];
  return key ?? null;
}

export function headerOf(req: IncomingMessage, name: string): string | null {
  const value = req.headers[name];
  return typeof value === 'string' ? value : null;
}

/** Null when the body is too large; what is left of it then is read and thrown away. */
async function readBody(req: IncomingMessage): Promise<Buffer | null> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of req) {
    bytes += chunk.length;
    if (bytes <= BODY_BYTES_MAX) chunks.push(chunk);
  }
  return bytes <= BODY_BYTES_MAX ? Buffer.concat(chunks) : null;
}

function parseJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString());
  } catch {
    return undefined;
  }
}
