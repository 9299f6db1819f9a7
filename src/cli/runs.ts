/** Commands about runs. */
import { setTimeout as sleep } from 'node:timers/promises';
import { openBars } from './bars.ts';
import type { Client, Json } from './client.ts';
import { EXIT, type ExitStatus, type Io } from './io.ts';
import { dollars, share, table } from './print.ts';

export type BackfillOptions = {
  readonly target?: string;
  readonly tenant?: readonly string[];
  readonly dryRun?: boolean;
  readonly includeUnverified?: boolean;
  readonly batchSize?: number;
  readonly limit?: number;
  readonly maxCost?: number;
  readonly maxTokens?: number;
  readonly wait?: boolean;
  readonly json?: boolean;
};

const RUNS = '/backfill-embeddings';
const LOOK_EVERY_MS = 1_000;
const SETTLED: readonly string[] = ['succeeded', 'incomplete', 'cancelled', 'failed'];

export async function backfill(io: Io, client: Client, options: BackfillOptions): Promise<ExitStatus> {
  const { target, tenant, dryRun, includeUnverified, batchSize, limit, maxCost, maxTokens } = options;
  const query = {
    ...{ target, tenantId: tenant, batchSize, limit, maxTokens, maxCostUsd: maxCost },
    dryRun: dryRun || undefined,
    includeUnverified: includeUnverified || undefined,
  };
  const started = await client.call('POST', RUNS, { query });
  if (options.wait) return waitForRun(io, client, started.runId, options);
  if (options.json) io.write(`${JSON.stringify(started, null, 2)}\n`);
  else io.write(`Run ${started.runId} has started. Follow it: infill run ${started.runId} --wait\n`);
  return EXIT.done;
}

/** Shows a run, or follows it to its end. */
export async function run(
  io: Io,
  client: Client,
  runId: string,
  options: { readonly wait?: boolean; readonly json?: boolean },
): Promise<ExitStatus> {
  const path = `${RUNS}/${encodeURIComponent(runId)}`;
  if (options.wait) return waitForRun(io, client, runId, options);
  const found = await client.call('GET', path);
  if (options.json) io.write(`${JSON.stringify(found, null, 2)}\n`);
  else {
    io.write(describe(found));
    const tenants = await client.list(`${path}/tenants`, {}, 50);
    io.write(
      table(
        ['tenant', 'status', 'embedded', 'planned', 'quarantined', 'failed', 'reason'],
        tenants.map(({ tenantId, status, rows, reason }) => [
          ...[tenantId, status, rows.embedded, rows.planned, rows.quarantined, rows.failed],
          reason ?? '',
        ]),
      ),
    );
    if (found.tenants.total > tenants.length)
      io.write(`... and ${found.tenants.total - tenants.length} more tenants.\n`);
  }
  return EXIT.done;
}

export async function runs(
  io: Io,
  client: Client,
  options: { readonly limit: number; readonly json?: boolean },
): Promise<ExitStatus> {
  const items = await client.list(RUNS, {}, options.limit);
  if (options.json) io.write(`${JSON.stringify({ items }, null, 2)}\n`);
  else {
    io.write(
      table(
        ['run', 'target', 'status', 'rows', 'started', 'message'],
        items.map((one) => [
          ...[one.runId, one.target, one.status, share(one.rows.embedded, one.rows.planned)],
          one.createdAt.slice(0, 16).replace('T', ' '),
          one.message,
        ]),
      ),
    );
  }
  return EXIT.done;
}

/** Pauses, resumes, cancels or retries a run. Saying it twice is fine. */
export async function control(
  io: Io,
  client: Client,
  action: 'pause' | 'resume' | 'cancel' | 'retry',
  runId: string,
  options: { readonly tenant?: readonly string[]; readonly json?: boolean },
): Promise<ExitStatus> {
  const query = action === 'retry' ? { tenantId: options.tenant } : {};
  const changed = await client.call('POST', `${RUNS}/${encodeURIComponent(runId)}/${action}`, { query });
  io.write(
    options.json
      ? `${JSON.stringify(changed, null, 2)}\n`
      : `Run ${changed.runId} is ${changed.status}. ${changed.message}\n`,
  );
  return EXIT.done;
}

/** Follows a run to its end. Ctrl-C stops following and leaves the run alone. */
async function waitForRun(
  io: Io,
  client: Client,
  runId: string,
  { json }: { readonly json?: boolean },
): Promise<ExitStatus> {
  const path = `${RUNS}/${encodeURIComponent(runId)}`;
  const bars = io.isTerminal && !json ? await openBars() : undefined;
  let found: Json;
  let said = '';
  try {
    for (;;) {
      found = await client.call('GET', path);
      if (bars !== undefined)
        bars.show(found, (await client.call('GET', `${path}/tenants`, { query: { limit: 200 } })).items);
      else if (!json && found.message !== said) io.writeError(`${found.message}\n`);
      said = found.message;
      if (SETTLED.includes(found.status) || io.interrupted.aborted) break;
      await sleep(LOOK_EVERY_MS, undefined, { signal: io.interrupted }).catch(() => undefined);
    }
  } finally {
    bars?.close();
  }
  if (json) io.write(`${JSON.stringify(found, null, 2)}\n`);
  if (!SETTLED.includes(found.status)) {
    if (!json) io.write(`The run goes on without you. Follow it again: infill run ${runId} --wait\n`);
    return EXIT.notComplete;
  }
  if (!json) io.write(describe(found));
  return { succeeded: EXIT.done, incomplete: EXIT.notComplete }[found.status as string] ?? EXIT.failed;
}

function describe(found: Json): string {
  const { runId, target, status, rows, requests, tokens, costUsd, reason } = found;
  return [
    `Run ${runId} of ${target}${found.dryRun ? ' (dry run)' : ''}: ${status}${reason === null ? '' : `, ${reason}`}`,
    found.message,
    `${share(rows.embedded, rows.planned)} rows, ${requests.toLocaleString('en-US')} requests, ${tokens.toLocaleString('en-US')} tokens, ${dollars(costUsd)}`,
    '',
  ].join('\n');
}
