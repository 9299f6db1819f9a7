/** One tenant's account at its limit beside ten that have none: what it costs the ten, and what it makes of its limit. */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LedgerEntry } from '../dev/openai-server/ledger.ts';
import type { LimitsConfig } from '../dev/openai-server/settings.ts';
import { median, percent, printTable, round } from './report.ts';
import { addRows, inWorld, MODEL, type World } from './world.ts';

const DIMENSIONS = 64;
const BATCH_ROWS = 20;
/** 40 tokens by the provider's count. */
const TEXT_BYTES = 160;
const TEN = Array.from({ length: 10 }, (_, index) => `tenant ${index}`);
const TEN_ROWS = 1_200;
const LIMITED = 'limited';
const LIMITED_KEY = 'sk-bench-limited';
/** A minute's worth, which a bucket holds, and then 140 seconds at the limit. */
const LIMITED_ROWS = (60 + 140) * BATCH_ROWS;
const ROUNDS = Number(process.env.R ?? 5);
/** Long enough that the slots are what is short, and not this machine's cores. */
const LATENCY_MS = 500;

/** Either lets one full batch a second through. */
const LIMITS = {
  '60 requests/min': { organization: 'org-limited', requestsPerMinute: 60, tokensPerMinute: null },
  '48,000 tokens/min': { organization: 'org-limited', requestsPerMinute: null, tokensPerMinute: 48_000 },
} as const satisfies Record<string, LimitsConfig>;

export async function storm(): Promise<void> {
  const rows: string[][] = [];
  for (const workers of [1, 3]) {
    await inWorld(
      {
        workers,
        slots: workers === 1 ? 18 : 6,
        dimensions: DIMENSIONS,
        provider: { ...keys(), latency: { fixedMs: LATENCY_MS } },
      },
      async (world) => {
        for (const tenant of TEN) await world.giveKey(tenant, `sk-bench-${tenant.replace(' ', '-')}`);
        for (const [name, limits] of Object.entries(LIMITS)) {
          await world.openai.control.setLimits(limits);
          await world.giveKey(LIMITED, LIMITED_KEY);
          const ten = ROUNDS === 0 ? ['-', '-', '-'] : await measureTen(world);
          rows.push([String(workers), name, ...ten, ...(await measureLimited(world, limits))]);
        }
      },
    );
  }
  printTable(
    `Storm: ten tenants without limits (${TEN_ROWS} rows each) beside one at its limit, ${BATCH_ROWS} rows a batch`,
    [
      'workers',
      'limit',
      'the ten alone, s',
      'beside the one, s',
      'ratio',
      'use of the limit',
      'refused after 10 s',
      'refused in all',
    ],
    rows,
  );
}

/** The time of the ten without and with the limited tenant, in turns; medians of the rounds. */
async function measureTen(world: World): Promise<string[]> {
  const alone: number[] = [];
  const beside: number[] = [];
  for (let turn = 0; turn < ROUNDS; turn++) {
    alone.push(await timeOfTen(world, false));
    beside.push(await timeOfTen(world, true));
  }
  return [
    round(median(alone), 1).toString(),
    round(median(beside), 1).toString(),
    round(median(beside) / median(alone), 2).toString(),
  ];
}

async function timeOfTen(world: World, withLimited: boolean): Promise<number> {
  const { sql } = world;
  await sql`TRUNCATE notes`;
  if (withLimited) await addRows(sql, LIMITED, LIMITED_ROWS, TEXT_BYTES);
  for (const tenant of TEN) await addRows(sql, tenant, TEN_ROWS, TEXT_BYTES);
  await sql`VACUUM ANALYZE notes`;
  if (withLimited) await drain(world);

  const runId = await world.start(`?batchSize=${BATCH_ROWS}`);
  for (;;) {
    const [{ settled, seconds }] = await sql<[{ settled: number; seconds: number }]>`
      SELECT count(t.settled_at)::int AS settled, extract(epoch FROM max(t.settled_at) - min(r.started_at))::float8 AS seconds
        FROM infill.run_tenants t JOIN infill.runs r ON r.run_id = t.run_id
       WHERE t.run_id = ${runId} AND t.tenant_id <> ${LIMITED}`;
    if (settled === TEN.length) {
      if (withLimited) await world.cancel(runId);
      else await world.settled(runId);
      return seconds;
    }
    await sleep(100);
  }
}

/**
 * What the limited tenant makes of its limit, beside the ten and then alone, until it is through: with an account that nobody
 * has called before, whose bucket is full.
 */
async function measureLimited(world: World, known: LimitsConfig): Promise<string[]> {
  const { sql } = world;
  const name = randomUUID();
  const key = `sk-bench-${name}`;
  const limits = { ...known, organization: `org-${name}` };
  await world.openai.control.putKey({ key, organization: limits.organization });
  await world.openai.control.setLimits(limits);
  await world.giveKey(LIMITED, key);
  await sql`TRUNCATE notes`;
  await addRows(sql, LIMITED, LIMITED_ROWS, TEXT_BYTES);
  for (const tenant of TEN) await addRows(sql, tenant, TEN_ROWS, TEXT_BYTES);
  await world.openai.control.resetLedger();

  const run = await world.settled(await world.start(`?batchSize=${BATCH_ROWS}`));
  if (run.status !== 'succeeded') throw new Error(`the run was to succeed: ${JSON.stringify(run)}`);
  const calls = await world.openai.control.ledger(key);
  const first = calls[0]?.atMs ?? 0;
  const last = calls.at(-1)?.atMs ?? 0;
  const late = calls.filter(({ atMs }) => atMs > first + 10_000);
  return [
    percent(used(calls, limits) / allowed(limits, last - first)),
    percent(late.filter(isRefused).length / late.length),
    `${calls.filter(isRefused).length} of ${calls.length}`,
  ];
}

/**
 * Uses up what the limited account may spend at once, as others of its organisation would: a storm begins at the limit. With
 * a full bucket the first minute would show how quickly a burst goes through this machine.
 */
async function drain(world: World): Promise<void> {
  const body = JSON.stringify({
    model: MODEL,
    input: 'a text of 800 tokens, a sixtieth of the minute. '.repeat(67),
  });
  const headers = { authorization: `Bearer ${LIMITED_KEY}`, 'content-type': 'application/json' };
  const send = () => fetch(`${world.openai.url}/embeddings`, { method: 'POST', headers, body });
  const answers = await Promise.all(Array.from({ length: 60 }, send));
  for (const answer of answers) await answer.arrayBuffer();
}

function used(calls: readonly LedgerEntry[], limits: LimitsConfig): number {
  const accepted = calls.filter(({ billed }) => billed);
  return limits.requestsPerMinute ? accepted.length : accepted.reduce((sum, { tokens }) => sum + tokens, 0);
}

/** What a bucket holds, and what flows into it in `ms` milliseconds. */
function allowed({ requestsPerMinute, tokensPerMinute }: LimitsConfig, ms: number): number {
  return ((requestsPerMinute ?? tokensPerMinute ?? 0) * (60_000 + ms)) / 60_000;
}

function isRefused({ status }: LedgerEntry): boolean {
  return status === 429;
}

function keys() {
  return {
    keys: [
      { key: LIMITED_KEY, organization: 'org-limited' },
      ...TEN.map((tenant) => ({
        key: `sk-bench-${tenant.replace(' ', '-')}`,
        organization: `org-${tenant}`,
      })),
    ],
  };
}
