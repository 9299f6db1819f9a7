/** Judges the evidence. Every violation is one line for a person. */
import { hashEmbedding } from '../openai-server/encoders.ts';
import type { BatchFacts, Evidence, RunFacts } from './evidence.ts';
import { judgePayments, TERMINAL } from './payments.ts';
import { DIMENSIONS, MODEL, POISON_WORD, tenantOfText } from './tables.ts';

/** Everything that must hold when all is over. Empty when it does. */
export function audit(evidence: Evidence): string[] {
  return [
    ...wrongRows(evidence),
    ...unsettledRuns(evidence),
    ...wrongCounts(evidence),
    ...embeddedTwice(evidence),
    ...crossedKeys(evidence),
    ...wrongTerminalEvents(evidence),
    ...judgePayments(evidence).unexplained,
  ];
}

/** Every row has the vector of its present text; or none, for a reason that can be told. */
export function wrongRows({ rows }: Pick<Evidence, 'rows'>): string[] {
  const violations: string[] = [];
  for (const { target, id, text, vector, isQuarantined } of rows) {
    const row = `${target} ${id} (${JSON.stringify(text.slice(0, 120))})`;
    const isPoisoned = text.includes(POISON_WORD);
    if (text === '') {
      if (vector !== null) violations.push(`${row} is blank and has a vector`);
    } else if (vector === null) {
      if (!isPoisoned)
        violations.push(`${row} has no vector${isQuarantined ? ': it is quarantined without a cause' : ''}`);
      else if (!isQuarantined)
        violations.push(`${row} has no vector and is not quarantined, though its text is refused`);
    } else if (isPoisoned) {
      violations.push(`${row} has a vector although its text is refused`);
    } else if (!isVectorOf(text, vector)) {
      violations.push(`${row} has a vector that is not the one of its text`);
    }
  }
  return violations;
}

/** Exact: what Postgres prints of a 32-bit float reads as the same 32-bit float. */
function isVectorOf(text: string, vector: readonly number[]): boolean {
  const wanted = hashEmbedding(text, MODEL, DIMENSIONS);
  return (
    vector.length === wanted.length && vector.every((value, index) => Math.fround(value) === wanted[index])
  );
}

const SETTLED = ['succeeded', 'incomplete', 'cancelled', 'failed'];

export function unsettledRuns({ runs, tenants }: Pick<Evidence, 'runs' | 'tenants'>): string[] {
  const open = runs.filter(({ status }) => !SETTLED.includes(status));
  const openParts = tenants.filter(({ status }) => !SETTLED.includes(status));
  return [
    ...open.map(({ runId, target, status }) => `run ${runId} of ${target} is ${status}`),
    ...openParts.map(({ runId, tenantId, status }) => `tenant ${tenantId} of run ${runId} is ${status}`),
  ];
}

/** A tenant's counts are what its batches have recorded. */
export function wrongCounts({ tenants, batches }: Pick<Evidence, 'tenants' | 'batches'>): string[] {
  const byPart = Map.groupBy(batches, ({ runId, tenantId }) => `${runId}/${tenantId}`);
  const violations: string[] = [];
  for (const part of tenants) {
    const own = byPart.get(`${part.runId}/${part.tenantId}`) ?? [];
    const sum = (amount: (batch: BatchFacts) => number) =>
      own.reduce((total, batch) => total + amount(batch), 0);
    const recorded = {
      embedded: sum((batch) => batch.embeddedIds.length),
      superseded: sum((batch) => batch.supersededIds.length),
      gone: sum((batch) => batch.goneIds.length),
      // What older generations failed at or set aside was tried again, or counted anew.
      quarantined: sum((batch) => (batch.generation === part.generation ? batch.quarantinedIds.length : 0)),
      failed: sum((batch) => (batch.generation === part.generation ? batch.failedIds.length : 0)),
      requests: sum((batch) => batch.requests),
      tokens: sum((batch) => batch.tokens),
    };
    for (const [name, count] of Object.entries(recorded)) {
      const counted = part[name as keyof typeof recorded];
      if (counted !== count)
        violations.push(
          `tenant ${part.tenantId} of run ${part.runId} counts ${counted} ${name}, its batches recorded ${count}`,
        );
    }
  }
  return violations;
}

/** No run embeds a row more often than it was new or edited; a dry run, which changes nothing, once. */
export function embeddedTwice({
  runs,
  batches,
  edits,
}: Pick<Evidence, 'runs' | 'batches' | 'edits'>): string[] {
  const targets = new Map(runs.map((run) => [run.runId, run]));
  const violations: string[] = [];
  for (const [runId, own] of Map.groupBy(batches, (batch) => batch.runId)) {
    const run = targets.get(runId);
    if (run === undefined) continue;
    const times = new Map<string, number>();
    for (const id of own.flatMap((batch) => batch.embeddedIds)) times.set(id, (times.get(id) ?? 0) + 1);
    for (const [id, count] of times) {
      if (count > 1 + (edits.get(`${run.target}/${id}`) ?? 0))
        violations.push(
          `run ${runId} of ${run.target}${run.dryRun ? ' (dry)' : ''} recorded row ${id} as embedded ${count} times`,
        );
    }
  }
  return violations;
}

/** Only a tenant's own keys, or the platform's if it has none, were ever sent its texts. */
export function crossedKeys({ calls, keysOf }: Pick<Evidence, 'calls' | 'keysOf'>): string[] {
  const violations = new Set<string>();
  for (const { call, key, texts } of calls) {
    const tenants = new Set(texts.map(tenantOfText).filter((tenant) => tenant !== undefined));
    if (tenants.size > 1) violations.add(`call ${call} mixes the texts of ${[...tenants].join(' and ')}`);
    for (const tenant of tenants) {
      if (key === null || !keysOf.get(tenant)?.includes(key))
        violations.add(`call ${call} sent a text of ${tenant} with the key ${key}`);
    }
  }
  return [...violations];
}

/** A run has one terminal event for each time that it settled, and the last one says how it stands. */
export function wrongTerminalEvents({ runs, events }: Pick<Evidence, 'runs' | 'events'>): string[] {
  const byRun = Map.groupBy(events, ({ runId }) => runId);
  return runs.flatMap((run) =>
    eventsProblem(
      run,
      (byRun.get(run.runId) ?? []).map(({ action }) => action),
    ),
  );
}

function eventsProblem({ runId, status }: RunFacts, actions: readonly string[]): string[] {
  const story = actions.filter((action) => TERMINAL.has(action) || action === 'run.retried');
  const problem = (what: string) => [`run ${runId} is ${status} and ${what}: ${actions.join(', ')}`];
  if (actions.filter((action) => action === 'run.started').length !== 1)
    return problem('was not started once');
  for (const [index, action] of story.entries()) {
    const isTerminal = index % 2 === 0;
    if (TERMINAL.has(action) !== isTerminal)
      return problem(isTerminal ? 'was retried before it had settled' : 'settled twice without a retry');
  }
  if (SETTLED.includes(status) && story.at(-1) !== `run.${status}`)
    return problem('its last event is another');
  return [];
}
