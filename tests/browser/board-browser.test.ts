import type { AddressInfo } from 'node:net';
import { FlowProducer, Queue } from 'bullmq';
import type { FastifyInstance } from 'fastify';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { planRunJob, planTenantJob, QUEUES, runBatchJob } from '../../src/queue/jobs.ts';
import { ADMIN_SECRET, buildTestServer, sampleRoutes } from '../support/admin-server.ts';
import { noBrowserReason, openBrowser, takeScreenshot, watchPage } from '../support/browser.ts';
import { sampleRun } from '../support/sample-run.ts';
import { createTestRedis, type TestService } from '../support/services.ts';

const run = { runId: '7d5a2f0e-3c1b-4c8e-9a51-0c1f5b7a9d10', generation: 1 };
const TENANTS = ['acme', 'globex', 'initech'];

let redis: TestService;
let queues: Queue[];
let app: FastifyInstance;
let base: string;
let browser: Browser;
let context: BrowserContext;
let page: Page;
let watched: ReturnType<typeof watchPage>;

describe.skipIf(noBrowserReason !== null)('in a real browser', () => {
  beforeAll(async () => {
    redis = await createTestRedis();
    queues = Object.values(QUEUES).map(
      (name) => new Queue(name, { connection: { url: redis.url }, prefix: '{infill}' }),
    );
    await addFlow();
    ({ app } = await buildTestServer({
      queues,
      environment: 'production',
      routes: [sampleRoutes],
      readRun: async (runId) => (runId === run.runId ? sampleRun(runId) : null),
    }));
    await app.listen({ host: '127.0.0.1', port: 0 });
    base = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`;
    browser = await openBrowser();
  }, 360_000);
  afterAll(async () => {
    await browser?.close();
    await app?.close();
    await Promise.all((queues ?? []).map((queue) => queue.close()));
    await redis?.close();
  });
  beforeEach(async () => {
    context = await browser.newContext({ viewport: { width: 1_280, height: 860 } });
    page = await context.newPage();
    page.setDefaultTimeout(15_000);
    watched = watchPage(page);
  });
  afterEach(() => context.close());

  test('a wrong secret is told and the right one leads to the page that was wanted', async () => {
    await page.goto(`${base}/admin/runs/${run.runId}`);
    expect(await page.title()).toBe('Log in · Infill');
    expect(await page.getByText('production').isVisible()).toBe(true);
    await takeScreenshot(page, 'login');

    await page.getByLabel('Admin secret').fill('not the secret, but long');
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByRole('alert').waitFor();
    expect(await page.getByRole('alert').textContent()).toBe('This is not the admin secret.');
    await takeScreenshot(page, 'login-wrong');

    await page.getByLabel('Admin secret').fill(ADMIN_SECRET);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: `Run ${run.runId}` }).waitFor();

    expect(page.url()).toBe(`${base}/admin/runs/${run.runId}`);
    const [cookie] = await context.cookies();
    expect(cookie).toMatchObject({ httpOnly: true, sameSite: 'Strict', path: '/admin', secure: false });
  });

  test('the board lists the three queues with their descriptions and a badge', async () => {
    await logIn();

    for (const name of Object.values(QUEUES)) await page.getByText(name).first().waitFor();
    await takeScreenshot(page, 'queues');
    expect(await page.getByText('production').first().isVisible()).toBe(true);
    await page.goto(`${base}/admin/queues/queue/${QUEUES.batches}`);
    await page.getByText('One job a batch: reads its rows').first().waitFor();
    await takeScreenshot(page, 'queue');
    expect(watched.foreign).toEqual([]);
  });

  test('a run shows its flow and its progress, and leads to its status', async () => {
    await logIn();

    const job = planRunJob(run, 'workflow_insights').opts.jobId;
    await page.goto(`${base}/admin/queues/queue/${QUEUES.runs}/${job}`);
    await page.getByText('run workflow_insights').first().waitFor();
    for (const tenant of TENANTS) await page.getByText(`tenant ${tenant}`).first().waitFor();
    await page.getByText('40%').first().waitFor();
    await takeScreenshot(page, 'flow');

    const status = page.getByRole('link', { name: 'Status of the run' }).first();
    expect(await status.getAttribute('href')).toBe(`/admin/runs/${run.runId}`);
    await page.goto(`${base}/admin/runs/${run.runId}`);
    await page.getByText('Backfilling 382 embeddings.').waitFor();
    expect(await page.getByRole('progressbar').getAttribute('value')).toBe('40');
    await takeScreenshot(page, 'run');
  });

  test('the board offers nothing that would act on a queue', async () => {
    await logIn();
    await page.goto(`${base}/admin/queues/queue/${QUEUES.runs}`);
    await page.getByText('run workflow_insights').first().waitFor();

    const offered: string[] = [];
    for (const menu of await page.locator('button[aria-haspopup="menu"]').all()) {
      await menu.click();
      await page.getByRole('menu').waitFor();
      offered.push(...(await page.getByRole('menu').getByRole('menuitem').allTextContents()));
      await page.keyboard.press('Escape');
      await page.getByRole('menu').waitFor({ state: 'hidden' });
    }

    expect(offered).toEqual(['API', 'Log out']);
  });

  test('logging out asks, and the board is closed again', async () => {
    await logIn();

    await page.locator('header button').last().click();
    await page
      .getByRole('link', { name: 'Log out' })
      .or(page.getByRole('menuitem', { name: 'Log out' }))
      .click();
    await page.getByRole('button', { name: 'Log out' }).click();
    await page.getByLabel('Admin secret').waitFor();

    expect(await context.cookies()).toEqual([]);
    expect((await page.goto(`${base}/admin/queues`))?.status()).toBe(401);
    await page.getByLabel('Admin secret').waitFor();
  });

  test('the description of the API opens without the internet', async () => {
    await page.goto(`${base}/docs`);
    await page.getByRole('heading', { name: 'Infill' }).waitFor();
    await takeScreenshot(page, 'docs');
    expect(watched).toEqual({ complaints: [], foreign: [] });
  });
});

if (noBrowserReason !== null) process.stdout.write(`${noBrowserReason}\n`);

async function logIn(): Promise<void> {
  await page.goto(`${base}/admin/login`);
  await page.getByLabel('Admin secret').fill(ADMIN_SECRET);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.waitForURL(`${base}/admin/queues`);
}

/** A run that waits for its tenants, each of which waits for its batches, as the story leaves them on Redis. */
async function addFlow(): Promise<void> {
  const flows = new FlowProducer({ connection: { url: redis.url }, prefix: '{infill}' });
  const batchesOf = (tenantId: string) =>
    [1, 2].map((sequence) => ({
      queueName: QUEUES.batches,
      ...runBatchJob({ ...run, tenantId, sequence, afterId: null, throughId: `row-${sequence}`, rows: 50 }),
    }));
  const flow = await flows.add({
    queueName: QUEUES.runs,
    ...planRunJob(run, 'workflow_insights'),
    children: TENANTS.map((tenantId) => ({
      queueName: QUEUES.tenants,
      ...planTenantJob({ ...run, tenantId }),
      children: batchesOf(tenantId),
    })),
  });
  await flow.job.updateProgress({ progress: 40, done: 153, total: 382 });
  await flows.close();
}
