/**
 * `npm run demo`: the whole product on this machine, from a gap in the embeddings to a search that finds again.
 *
 * Stays until Ctrl-C; with `--exit` it ends by itself, with status 0 only when nothing is missing any more.
 */
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { DemoFailure } from './failure.ts';
import { loseEmbeddings, missingIds } from './insights.ts';
import { showWaysIn, tellStory } from './story.ts';
import { bold, cyan, dim, green, isLive, red, say, seconds, yellow } from './terminal.ts';
import { Opened, openWorld, WATCH_EVERY_MS, type World } from './world.ts';

const INTERRUPTED = 130;
const PARENT_CHECK_MS = 1_000;

const stopping = new AbortController();
const opened = new Opened();
const startedAtMs = performance.now();
let isDone = false;

process.exit(await main());

async function main(): Promise<number> {
  const exits = parseExit();
  if (exits === undefined) return 2;
  const interrupted = watchForTheEnd();
  try {
    await Promise.race([demo(exits), interrupted, uncaught()]);
    return 0;
  } catch (error) {
    if (!stopping.signal.aborted) tellFailure(error);
    return stopping.signal.aborted ? (isDone ? 0 : INTERRUPTED) : 1;
  } finally {
    if (stopping.signal.aborted) say(dim('\nStopping what was started.'));
    stopping.abort();
    await opened.close();
  }
}

/** Undefined after a mistake in the arguments, which is told. */
function parseExit(): boolean | undefined {
  try {
    return parseArgs({ options: { exit: { type: 'boolean', default: false } } }).values.exit;
  } catch (error) {
    say(`${(error as Error).message}\nUsage: npm run demo [-- --exit]`);
    return undefined;
  }
}

async function demo(exits: boolean): Promise<void> {
  say(bold('Infill: fill the gaps in a pgvector table, tenant by tenant'));
  say(dim('Everything runs on this machine, on loopback, and is gone afterwards.\n'));
  const world = await openWorld(opened, stopping.signal, (what, tookMs) => {
    say(`  ${green('✓')} ${what} ${dim(seconds(tookMs))}`);
  });
  if (!exits) {
    say(`\n  Look on at ${cyan(`${world.url}/admin`)}, log in with ${yellow(world.adminSecret)}`);
  }
  try {
    await Promise.race([goOn(world, exits), world.broken]);
  } catch (error) {
    // What fails because something died is told by that, not by the first error it caused.
    await Promise.race([world.broken, setTimeout(2 * WATCH_EVERY_MS)]);
    throw error;
  }
}

async function goOn(world: World, exits: boolean): Promise<void> {
  const gaps = await missingIds(world.sql);
  const run = await tellStory(world);
  say(`\n${green('Done')} ${dim(`in ${seconds(performance.now() - startedAtMs)}`)}`);
  isDone = true;
  if (exits) return;
  showWaysIn(world, run);
  await stay(world, gaps);
}

/** Until Ctrl-C. On a terminal, Enter makes the gap again, so that there is something to fill by hand. */
async function stay({ sql }: World, gaps: readonly string[]): Promise<never> {
  const canType = isLive && process.stdin.isTTY === true;
  if (canType) {
    say(
      `\n  Enter  loses the ${gaps.length} embeddings again, for these lines to find\n  Ctrl-C ends the demo`,
    );
    createInterface(process.stdin).on('line', () => {
      loseEmbeddings(sql, gaps).then(
        () => say(`  ${gaps.length} embeddings are missing again.`),
        (error: Error) => say(red(`  ${error.message}`)),
      );
    });
  } else {
    say('\n  Ctrl-C ends the demo');
  }
  return new Promise(() => {});
}

/** Rejects when a person, the system, or the end of npm says that it is time to go. */
async function watchForTheEnd(): Promise<never> {
  const stop = () => stopping.abort();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop);
  // Whoever read our words has gone, as in `npm run demo | head`.
  process.stdout.on('error', stop);
  const parent = process.ppid;
  if (process.env.npm_lifecycle_event !== undefined) {
    setInterval(() => process.ppid !== parent && stop(), PARENT_CHECK_MS).unref();
  }
  await once(stopping.signal, 'abort');
  throw stopping.signal.reason;
}

/** Rejects with the first error that nobody caught, such as those a driver throws when its server dies. */
function uncaught(): Promise<never> {
  return new Promise((_resolve, reject) => {
    process.on('uncaughtException', (error) => setTimeout(2 * WATCH_EVERY_MS).then(() => reject(error)));
  });
}

function tellFailure(error: unknown): void {
  const isKnown = error instanceof DemoFailure;
  say(`\n${red('The demo failed.')} ${error instanceof Error ? error.message : String(error)}`);
  if (!isKnown || error.related === undefined) return;
  say(dim(`\nThe last lines of the ${error.related.name}’s log:`));
  for (const line of error.related.logTail()) say(`  ${line}`);
}
