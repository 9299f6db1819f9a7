/**
 * `node dev/demo/screenshot.ts`: takes the pictures of the README, in the middle of a real run of the demo's system.
 *
 * Needs Chromium: /usr/bin/chromium, or the file that CHROMIUM names. Takes a minute and writes into `docs/images`.
 */
import { fileURLToPath } from 'node:url';
import { type Browser, chromium, type Page } from 'playwright-core';
import { planRunId, QUEUES } from '../../src/queue/jobs.ts';
import type { Run } from './admin-api.ts';
import { say } from './terminal.ts';
import { Opened, openWorld, type World } from './world.ts';

const IMAGES = new URL('../../docs/images/', import.meta.url);
const WINDOW = { width: 1_280, height: 800 };
const PAGE_TIMEOUT_MS = 60_000;
/** Few batches, so that each can be read in the flow. */
const BATCH_SIZE = '80';
/** Slows the run down, so that it is still in its middle when all pages are open. */
const LATENCY_MS = 8_000;
const RUN_PERCENT = 25;
/** What the flow takes to move to its place. */
const ANIMATION_MS = 1_000;

const opened = new Opened();
try {
  const world = await openWorld(opened, new AbortController().signal, (what) => say(`✓ ${what}`));
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--no-first-run',
      '--disable-background-networking',
    ],
  });
  opened.add(() => browser.close());
  await takePictures(world, browser);
} finally {
  await opened.close();
}
// The watch over the demo's processes would still be waiting for one of them to die.
process.exit();

async function takePictures(world: World, browser: Browser): Promise<void> {
  const context = await browser.newContext({ viewport: WINDOW, colorScheme: 'light' });
  const board = await context.newPage();
  board.setDefaultTimeout(PAGE_TIMEOUT_MS);
  await logIn(board, world);

  await world.openai.control.setLatency({ fixedMs: LATENCY_MS });
  const { runId } = await world.api.startRun({ batchSize: BATCH_SIZE });
  const run = await reach(world, runId, RUN_PERCENT);
  await board.goto(`${world.url}/admin/queues/queue/${QUEUES.runs}/${planRunId(run)}`);
  await board.getByText('tenant harbor-commerce').first().waitFor();
  await board.getByRole('button', { name: 'Expand the flow to fullscreen' }).click();
  await board.waitForTimeout(ANIMATION_MS);
  await board.getByRole('button', { name: 'Fit the whole flow' }).click();
  await board.waitForTimeout(ANIMATION_MS);
  await save(board, 'bull-board.png');

  await board.goto(`${world.url}${run.links.board}`);
  await board.getByRole('progressbar').waitFor();
  await save(board, 'run.png');

  await board.goto(`${world.url}/admin`);
  await board.getByRole('heading', { name: 'Overview' }).waitFor();
  await save(board, 'overview.png');
}

async function logIn(page: Page, { url, adminSecret }: World): Promise<void> {
  await page.goto(`${url}/admin/login`);
  await page.getByLabel('Admin secret').fill(adminSecret);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.waitForURL(`${url}/admin/queues`);
}

/** Returns the run as soon as it is so far, in percent. */
async function reach({ api }: World, runId: string, percent: number): Promise<Run> {
  for (;;) {
    const run = await api.run(runId);
    if (run.progress >= percent) return run;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

async function save(page: Page, name: string): Promise<void> {
  const path = fileURLToPath(new URL(name, IMAGES));
  await page.screenshot({ path });
  say(`✓ ${name}`);
}
