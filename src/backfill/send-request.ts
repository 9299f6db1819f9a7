/** The sending of one request, and what it shows about the key that was used. */
import { EmbedError, type FailureCode } from '../core/failures.ts';
import { type KeyVerdict, statusAfter } from '../credentials/health.ts';
import { recordKeyHealth } from '../db/tenant-credentials.ts';
import type { EmbedAnswer } from '../openai/embedder.ts';
import type { AnswerHeard } from '../pacing/pacer.ts';
import type { Call } from './call-provider.ts';
import type { BatchDeps } from './deps.ts';

/** Failures that the provider may be to blame for as well as the work. */
const PROVIDER_FAILURES: readonly FailureCode[] = [
  'provider_failed',
  'connection_failed',
  'timed_out',
  // What stands before a provider that is down may answer in its place, with a page and a 200.
  'answer_malformed',
];

export function isProviderFailure(error: unknown): error is EmbedError {
  return error instanceof EmbedError && PROVIDER_FAILURES.includes(error.code);
}

/** Sends texts with the key of a call, alone if nobody has used it yet. */
export function send(deps: BatchDeps, call: Call, texts: readonly string[]): Promise<EmbedAnswer> {
  const embed = () => {
    call.onRequest();
    const { model, dimensions, sendDimensions, fields } = call;
    const request = { texts, model, dimensions, sendDimensions, fields };
    return deps.embedder.embed(call.credential, request, call.signal);
  };
  return deps.keyGate.pass(call.keyName, call.tenantId, embed, () =>
    // The answer is paid for: what cannot be noted at the moment is noted with the next one.
    noteHealth(deps, call, { status: 'valid', reason: null }).catch(() =>
      deps.keyGate.forgetGood(call.keyName, call.tenantId),
    ),
  );
}

/** A server that reports no usage is taken at our estimate. */
export function heard(answer: EmbedAnswer): AnswerHeard {
  return { ...answer, tokens: answer.tokens > 0 ? answer.tokens : null };
}

/** Records what a failure showed about a tenant's own key, if anything. */
export async function noteFailure(deps: BatchDeps, call: Call, error: unknown): Promise<void> {
  if (!(error instanceof EmbedError)) return;
  // Its next answer shows that the key works again. One that is dead does so by no answer of this run.
  if (error.code === 'rate_limited') deps.keyGate.forgetGood(call.keyName, call.tenantId);
  await noteHealth(deps, call, statusAfter(error));
}

/** Records what a call showed about a tenant's own key. */
async function noteHealth(
  deps: BatchDeps,
  { tenantId, credential }: Pick<Call, 'tenantId' | 'credential'>,
  health: KeyVerdict | undefined,
): Promise<void> {
  if (health === undefined || credential.owner !== 'tenant') return;
  await recordKeyHealth(deps.db, { tenantId, fingerprint: credential.fingerprint, ...health });
}
