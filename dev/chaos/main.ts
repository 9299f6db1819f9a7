/**
 * `npm run chaos -- --minutes N --seed S`: runs over random tenants while a monkey breaks everything around them, and then
 * an audit. See docs/reliability.md.
 *
 * Status 0 without a violation, 1 with one, 2 when it cannot run here.
 */
import { randomInt } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { parseChaosArguments } from './arguments.ts';
import { audit } from './audit.ts';
import { calmDown } from './calm.ts';
import { gatherEvidence } from './evidence.ts';
import { LIVE_JOBS_MAX, mostLiveJobs, openLiveJobs } from './live-jobs.ts';
import { createMonkey } from './monkey.ts';
import { Opened } from './opened.ts';
import { judgePayments } from './payments.ts';
import { figuresOf, reportLines } from './report.ts';
import { driveRuns } from './runs.ts';
import { planStorm } from './schedule.ts';
import { longestSilenceMs, type Sample, watchForSilence } from './silence.ts';
import { TABLES } from './tables.ts';
import { openWorld, WORKERS } from './world.ts';

/** Left of the minutes for what comes after the storm, when all goes well. */
const CALM_MS = 45_000;
const STORM_MS_MIN = 20_000;
const INTERRUPTED = 130;

const opened = new Opened();
process.exit(await main());

async function main(): Promise<number> {
  const services = findServices();
  if (services === undefined) return 2;
  let given: ReturnType<typeof parseChaosArguments>;
  try {
    given = parseChaosArguments(process.argv.slice(2), () => randomInt(1_000_000_000));
  } catch (error) {
    console.error(`chaos: ${(error as Error).message}`);
    return 2;
  }
  const interrupted = watchSignals();
  process.once('exit', () => opened.killAll());
  console.log(`chaos: ${given.minutes} minutes, seed ${given.seed}`);
  try {
    return await Promise.race([storm(services.databaseUrl, given), interrupted]);
  } catch (error) {
    console.error(`chaos: the suite itself failed: ${(error as Error).stack}`);
    return 1;
  } finally {
    // After an early end, what is still under way fails, and nobody waits for it any more.
    process.on('unhandledRejection', () => undefined);
    await opened.close();
  }
}

/** The URL of the real services, or undefined after one line that says what is missing. */
function findServices(): { databaseUrl: string } | undefined {
  const databaseUrl = process.env.TEST_DATABASE_URL;
  if (databaseUrl !== undefined && process.env.TEST_REDIS_URL !== undefined) return { databaseUrl };
  console.error(
    'chaos: needs a real PostgreSQL with pgvector and a real Redis: set TEST_DATABASE_URL (may create databases) and TEST_REDIS_URL',
  );
  return undefined;
}

async function storm(
  databaseUrl: string,
  { minutes, seed, verbose }: ReturnType<typeof parseChaosArguments>,
): Promise<number> {
  const beganAtMs = Date.now();
  const since = () => `${((Date.now() - beganAtMs) / 1_000).toFixed(1).padStart(6)} s`;
  const tell = (line: string) => {
    if (verbose) console.log(`${since()}  ${line}`);
  };
  const world = await openWorld(opened, databaseUrl, seed);
  console.log(`chaos: everything runs after ${since().trim()}; logs in ${world.folder}`);

  const durationMs = Math.max(STORM_MS_MIN, minutes * 60_000 - (Date.now() - beganAtMs) - CALM_MS);
  const monkey = createMonkey(world, tell);
  const liveJobs = openLiveJobs(world.redis.url);
  const watching = new AbortController();
  const driving = new AbortController();
  const silence = watchForSilence(world, liveJobs, watching.signal);
  const drivers = TABLES.map((table) => driveRuns(world, table, seed, driving.signal));
  await monkey.run(planStorm(seed, { durationMs, workers: WORKERS }), driving.signal);
  driving.abort();
  await Promise.all(drivers);
  console.log(`chaos: the storm is over after ${since().trim()}`);

  const calm = await calmDown(world);
  watching.abort();
  const samples = await silence;
  liveJobs.close();
  const mostJobs = mostLiveJobs(samples);
  const evidence = await gatherEvidence(world, monkey.strikes);
  for (const line of judgePayments(evidence).explained) tell(line);
  const violations = [
    ...calm.failures,
    ...audit(evidence),
    ...world.crashes,
    ...world.logs.leaks,
    ...new Set(world.admin.unplanned),
    ...(mostJobs > LIVE_JOBS_MAX
      ? [`Redis held ${mostJobs} live jobs, expected at most ${LIVE_JOBS_MAX}`]
      : []),
  ];
  const figures = figuresOf({
    evidence,
    rows: world.rows.done,
    logEvents: world.logs.events,
    liveJobsMax: mostJobs,
    longestSilenceMs: longestOf(samples, evidence.calls),
    healMs: calm.healMs,
  });
  console.log(`chaos: seed ${seed}, ${minutes} minutes, ended after ${since().trim()}`);
  for (const line of reportLines(figures, violations)) console.log(line);
  if (violations.length > 0 || verbose)
    console.log(`The logs are kept in ${world.folder}; seed ${seed} plans the same storm again.`);
  else await rm(world.folder, { recursive: true, force: true });
  return violations.length === 0 ? 0 : 1;
}

function longestOf(
  samples: readonly Sample[],
  calls: readonly { atMs: number; texts: readonly string[] }[],
): number {
  const silences = TABLES.map(({ name }) => {
    const own = calls.filter(({ texts }) => texts.some((text) => text.includes(` ${name} `)));
    return longestSilenceMs(
      samples,
      name,
      own.map(({ atMs }) => atMs),
    );
  });
  return Math.max(...silences);
}

function watchSignals(): Promise<number> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve(INTERRUPTED));
  });
}
