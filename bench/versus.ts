/** Infill beside what one would use without it, in turns: on the same database, provider and machine. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import type { ServerConfig } from '../dev/openai-server/settings.ts';
import { cpuMs, residentMiB } from './process-figures.ts';
import { median, printTable, round } from './report.ts';
import { type ServiceFigures, watchServices } from './service-figures.ts';
import { addRows, inWorld, MODEL, PLATFORM_KEY, type World } from './world.ts';

const ROWS = 10_000;
/** The loop makes ten rows a second, however many there are. */
const LOOP_ROWS = 200;
const TENANTS = 5;
const DIMENSIONS = 1_536;
const SLOTS = 16;
const BATCH_ROWS = 512;
const LATENCY_MS = 100;
const ROUNDS = Number(process.env.R ?? 3);

/** Part of a name: only ways whose names have it take part. */
const ONLY = process.env.WAY ?? '';

const WAYS = {
  Infill: undefined,
  'LangChain.js `embedDocuments`': 'langchain',
  'AI SDK `embedMany`': 'ai-sdk',
  'a call a row': 'loop',
} as const;

type Figures = ServiceFigures & {
  readonly rows: number;
  readonly seconds: number;
  readonly cpuMs: number;
  readonly residentMiB: number;
};

/** Limits that nobody reaches, but that every answer's headers tell. */
const TOLD = { requestsPerMinute: 1_000_000, tokensPerMinute: 1_000_000_000 };

export async function versus(): Promise<void> {
  installAlternatives();
  await compare('versus-told', 'Limits told by headers', TOLD);
  await compare('versus-untold', 'A provider that tells no limits, and that Infill does not know yet', {});
}

async function compare(name: string, title: string, limits: object): Promise<void> {
  const provider: ServerConfig = {
    keys: [{ key: PLATFORM_KEY, organization: 'org-platform', ...limits }],
    latency: { fixedMs: LATENCY_MS },
  };
  await inWorld({ workers: 1, slots: SLOTS, dimensions: DIMENSIONS, provider }, async (world) => {
    // A first small run, so that connections are open and code is compiled.
    await fillTable(world, 2_000);
    await world.settled(await world.start(`?batchSize=${BATCH_ROWS}`));
    const all = new Map<string, Figures[]>(Object.keys(WAYS).map((way) => [way, []]));
    for (let turn = 0; turn < ROUNDS; turn++) {
      for (const [label, way] of Object.entries(WAYS)) {
        if (!label.includes(ONLY)) continue;
        await fillTable(world, way === 'loop' ? LOOP_ROWS : ROWS);
        all.get(label)?.push(way === undefined ? await byInfill(world) : await byAlternative(world, way));
      }
    }
    const aRow = (figures: readonly Figures[], of: (one: Figures) => number) =>
      round(median(figures.map((one) => (of(one) / one.rows) * 1_000)));
    printTable(
      `${title}: ${ROWS} rows of ${TENANTS} tenants, ${DIMENSIONS} dimensions, ${LATENCY_MS} ms an answer; medians of ${ROUNDS}`,
      ['way', 'rows/s', 'CPU ms / 1,000 rows', "Postgres' CPU", "Redis' CPU", 'resident at most, MiB'],
      [...all]
        .filter(([, figures]) => figures.length > 0)
        .map(([label, figures]) => [
          label,
          round(median(figures.map(({ rows, seconds }) => rows / seconds))),
          aRow(figures, (one) => one.cpuMs),
          aRow(figures, (one) => one.postgresMs),
          label === 'Infill' ? aRow(figures, (one) => one.redisMs) : '-',
          round(median(figures.map((one) => one.residentMiB))),
        ]),
      name,
    );
  });
}

async function fillTable({ sql }: World, rows: number): Promise<void> {
  await sql`TRUNCATE notes`;
  for (let tenant = 0; tenant < TENANTS; tenant++) await addRows(sql, `tenant ${tenant}`, rows / TENANTS);
  await sql`VACUUM ANALYZE notes`;
}

async function byInfill(world: World): Promise<Figures> {
  await forgetAccounts(world);
  const pid = world.workers[0]?.pid ?? 0;
  const services = await watchServices(world);
  const cpuBefore = cpuMs(pid);
  let resident = 0;
  const run = await world.settled(await world.start(`?batchSize=${BATCH_ROWS}`), async () => {
    resident = Math.max(resident, residentMiB(pid));
  });
  if (run.rows.embedded !== ROWS)
    throw new Error(`the run was to embed ${ROWS} rows: ${JSON.stringify(run)}`);
  return {
    rows: ROWS,
    seconds: (Date.parse(run.settledAt) - Date.parse(run.createdAt)) / 1_000,
    cpuMs: cpuMs(pid) - cpuBefore,
    residentMiB: Math.max(resident, residentMiB(pid)),
    ...(await services.stop()),
  };
}

/** Each turn meets the provider as if for the first time. */
async function forgetAccounts({ redisUrl }: World): Promise<void> {
  const redis = new Redis(redisUrl);
  for (const kind of ['account', 'flight']) {
    const names = await redis.keys(`*infill*:${kind}:*`);
    if (names.length > 0) await redis.del(...names);
  }
  redis.disconnect();
}

const FOLDER = fileURLToPath(new URL('./alternatives/', import.meta.url));

/** What the product is compared with is no part of it: it is installed when somebody compares. */
function installAlternatives(): void {
  if (existsSync(`${FOLDER}node_modules`)) return;
  console.log('Installing what Infill is compared with (bench/alternatives).');
  execFileSync('npm', ['ci'], { cwd: FOLDER, stdio: 'inherit' });
}

async function byAlternative(world: World, way: string): Promise<Figures> {
  const services = await watchServices(world);
  const child = spawn(process.execPath, ['main.js', way], {
    cwd: FOLDER,
    stdio: ['pipe', 'pipe', 'inherit'],
    env: {
      ...process.env,
      DATABASE_URL: world.databaseUrl,
      OPENAI_BASE_URL: world.openai.url,
      OPENAI_API_KEY: PLATFORM_KEY,
      MODEL,
      DIMENSIONS: String(DIMENSIONS),
    },
  });
  try {
    const figures = JSON.parse(await firstLine(child));
    const all = { ...figures, ...(await services.stop()) };
    if (all.rows !== (way === 'loop' ? LOOP_ROWS : ROWS)) throw new Error(`${way} embedded ${all.rows} rows`);
    return all;
  } finally {
    const ended = once(child, 'exit');
    if (child.exitCode === null) {
      child.stdin?.end();
      await ended;
    }
  }
}

async function firstLine(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error('the output of the child is a pipe');
  for await (const line of createInterface({ input: child.stdout })) return line;
  throw new Error('the process ended without telling its figures');
}
