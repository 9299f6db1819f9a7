import { isSettled } from '../../src/core/run.ts';
import type { Run, RunTenant } from './admin-api.ts';
import { DemoFailure } from './failure.ts';
import { bar, bold, cut, dim, grouped, isLive, LiveBlock, say, width } from './terminal.ts';
import type { World } from './world.ts';

const POLL_MS = 250;
/** A run that has not moved for so long will not. */
const STUCK_AFTER_MS = 60_000;
/** Where nothing can be redrawn, a line for every so many percent. */
const PLAIN_STEP_PERCENT = 20;
const BAR_LETTERS_MAX = 40;

/**
 * Shows how far a run is until it settles, by tenant if `byTenant`, and returns the run as it ended.
 *
 * @throws {DemoFailure} when it stands still.
 */
export async function followRun(
  { api, worker }: Pick<World, 'api' | 'worker'>,
  runId: string,
  { byTenant, order }: { byTenant: boolean; order: readonly string[] },
): Promise<Run> {
  const block = new LiveBlock();
  let shownPercent = 0;
  let lastDone = -1;
  let movedAtMs = performance.now();

  for (;;) {
    const run = await api.run(runId);
    const tenants = byTenant ? await api.tenants(runId) : [];
    const settled = isSettled(run.status);
    const lines = [...tenantLines(tenants, order), runLine(run)];
    if (isLive) block.draw(lines);
    else if (settled) for (const line of lines) say(line);
    else if (run.progress >= shownPercent + PLAIN_STEP_PERCENT) {
      shownPercent = run.progress;
      say(`  ${plainProgress(run)}`);
    }
    if (settled) return run;

    const done = run.rows.embedded + run.tenants.settled;
    if (done !== lastDone) movedAtMs = performance.now();
    lastDone = done;
    if (performance.now() - movedAtMs > STUCK_AFTER_MS) {
      throw new DemoFailure(`The run stands still: ${run.message}`, worker);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function tenantLines(tenants: readonly RunTenant[], order: readonly string[]): string[] {
  const nameLetters = Math.max(0, ...order.map((name) => name.length));
  return tenants
    .toSorted((a, b) => order.indexOf(a.tenantId) - order.indexOf(b.tenantId))
    .map(({ tenantId, status, rows: { embedded, planned } }) => {
      const counts = `${grouped(embedded)}/${grouped(planned)}`.padStart(9);
      const said = status === 'running' || status === 'succeeded' ? '' : dim(`  ${status}`);
      return `  ${cut(tenantId, nameLetters).padEnd(nameLetters)}  ${bar(embedded, planned, barLetters(nameLetters))}  ${counts}${said}`;
    });
}

function runLine(run: Run): string {
  const { embedded, planned } = run.rows;
  return isSettled(run.status)
    ? `  ${bold(run.message)}`
    : `  ${bar(embedded, Math.max(planned, 1), barLetters(0))}  ${plainProgress(run)}`;
}

function plainProgress({ rows: { embedded, planned }, etaSeconds }: Run): string {
  const left = etaSeconds === null ? '' : dim(`, ${etaSeconds} s left`);
  return `${grouped(embedded)} of ${grouped(planned)}${left}`;
}

function barLetters(nameLetters: number): number {
  return Math.max(10, Math.min(BAR_LETTERS_MAX, width() - nameLetters - 32));
}
