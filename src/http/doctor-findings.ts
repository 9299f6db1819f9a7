/** What the doctor says about what it was told. */
import { z } from 'zod';

export const Finding = z.object({
  name: z.string().describe('What was looked at.'),
  status: z.enum(['ok', 'warn', 'fail']),
  message: z.string(),
  advice: z.string().nullable().describe('What to do about it.'),
});
export type Finding = z.output<typeof Finding>;

export type KeyFacts = {
  readonly platformKey: string | null;
  readonly policy: 'fallback' | 'required';
  /** Null when `CREDENTIALS_KEY` is not set. */
  readonly sealingKey: unknown;
};

/** Clocks that differ by more make waits and time limits wrong. */
const CLOCK_WARN_MS = 2_000;
const CLOCK_FAIL_MS = 30_000;

/** Source: pgvector's change log. */
export function vectorFinding(version: string | null): Finding {
  if (version === null) {
    return fail(
      'pgvector',
      'The extension "vector" is not installed in this database.',
      'Run `CREATE EXTENSION vector;` as a superuser.',
    );
  }
  const faults = [
    ['0.8.2', 'parallel builds of HNSW indexes may overflow'],
    ['0.8.3', 'a vacuum may corrupt an HNSW index'],
    ['0.8.4', 'a vacuum of an HNSW index may fail'],
  ] as const;
  const met = faults.filter(([mended]) => isOlder(version, mended)).map(([, fault]) => fault);
  return met.length === 0
    ? ok('pgvector', `pgvector ${version}.`)
    : warn(
        'pgvector',
        `pgvector ${version} has known faults: ${met.join('; ')}.`,
        'Upgrade pgvector to 0.8.4 or newer.',
      );
}

/** Whether a version such as 0.8.1 is before another. */
export function isOlder(version: string, than: string): boolean {
  const [a, b] = [version, than].map((text) => text.split('.').map(Number));
  for (let index = 0; index < 3; index++) {
    const [left, right] = [a?.[index] ?? 0, b?.[index] ?? 0];
    if (left !== right) return left < right;
  }
  return false;
}

export function keyFindings(keys: KeyFacts): Finding[] {
  const findings: Finding[] = [];
  if (keys.platformKey === null && keys.policy === 'fallback')
    findings.push(
      warn(
        'platform key',
        'OPENAI_API_KEY is not set: tenants without a key of their own are not embedded.',
        'Set it, or TENANT_KEY_POLICY=required if that is meant.',
      ),
    );
  else
    findings.push(
      ok(
        'platform key',
        keys.platformKey === null ? 'Every tenant needs a key of its own.' : 'OPENAI_API_KEY is set.',
      ),
    );
  findings.push(
    keys.sealingKey === null
      ? warn(
          'sealing key',
          'CREDENTIALS_KEY is not set: no key of a tenant can be stored.',
          'Set it to what `openssl rand -base64 32` prints.',
        )
      : ok('sealing key', 'CREDENTIALS_KEY is set.'),
  );
  return findings;
}

export function clockFinding(name: string, nowMs: number): Finding {
  const offMs = Math.abs(Date.now() - nowMs);
  const said = `It differs from the clock of the API by ${(offMs / 1_000).toFixed(1)} s.`;
  const advice = 'Synchronise the clocks (NTP).';
  if (offMs > CLOCK_FAIL_MS) return fail(name, said, advice);
  return offMs > CLOCK_WARN_MS ? warn(name, said, advice) : ok(name, said);
}

export const ok = (name: string, message: string): Finding => ({ name, status: 'ok', message, advice: null });
export const warn = (name: string, message: string, advice: string): Finding => ({
  name,
  status: 'warn',
  message,
  advice,
});
export const fail = (name: string, message: string, advice: string): Finding => ({
  name,
  status: 'fail',
  message,
  advice,
});
