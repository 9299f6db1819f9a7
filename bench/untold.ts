/** A provider that refuses above a rate and says nothing of it: what a worker makes of that rate, and what it costs in refusals. */
import { setTimeout as sleep } from 'node:timers/promises';
import { percent, printTable } from './report.ts';
import { addRows, inWorld, PLATFORM_KEY } from './world.ts';

const CASES = [
  { requestsPerMinute: 600, burstSeconds: 1 },
  { requestsPerMinute: 600, burstSeconds: 20 },
  { requestsPerMinute: 3_000, burstSeconds: 1 },
  { requestsPerMinute: 3_000, burstSeconds: 20 },
] as const;
const BATCH_ROWS = 10;
const BEGIN_MS = 30_000;
const END_MS = 90_000;

export async function untold(): Promise<void> {
  const rows: (string | number)[][] = [];
  for (const limits of CASES) {
    const provider = {
      keys: [{ key: PLATFORM_KEY, organization: 'org-platform', ...limits }],
      tellsLimits: false,
      latency: { fixedMs: 100 },
    };
    await inWorld({ workers: 1, slots: 16, dimensions: 64, provider }, async (world) => {
      const minutes = END_MS / 60_000 + 1;
      for (let tenant = 0; tenant < 5; tenant++) {
        await addRows(
          world.sql,
          `tenant ${tenant}`,
          (limits.requestsPerMinute * minutes * BATCH_ROWS * 1.2) / 5,
        );
      }
      const runId = await world.start(`?batchSize=${BATCH_ROWS}`);
      await sleep(END_MS + 2_000);
      await world.cancel(runId);
      const calls = await world.openai.control.ledger(PLATFORM_KEY);
      const first = calls[0]?.atMs ?? 0;
      const inTime = calls.filter(({ atMs }) => atMs <= first + END_MS);
      const late = inTime.filter(({ atMs }) => atMs > first + BEGIN_MS);
      const served = late.filter(({ status }) => status === 200).length;
      const refused = (some: typeof calls) => some.filter(({ status }) => status === 429).length;
      rows.push([
        limits.requestsPerMinute,
        limits.burstSeconds,
        percent(served / ((limits.requestsPerMinute * (END_MS - BEGIN_MS)) / 60_000)),
        percent(refused(late) / late.length),
        `${refused(inTime)} of ${inTime.length}`,
      ]);
    });
  }
  printTable(
    `A hidden limit of requests, ${BATCH_ROWS} rows a request, one worker of 16 slots, 100 ms an answer; ${END_MS / 1_000} s`,
    ['limit a minute', 'burst, s', 'used after 30 s', 'refused after 30 s', 'refused in all'],
    rows,
    'untold',
  );
}
