import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { noBrowserReason, openBrowser, takeScreenshot, watchPage } from '../support/browser.ts';
import { ADMIN_SECRET, type System, startSystem } from '../support/system.ts';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const PAGES = ['', '/runs', '/start', '/keys', '/quarantine', '/switches', '/audit', '/health'] as const;
type Violation = {
  readonly id: string;
  readonly impact: string;
  readonly nodes: readonly { readonly html: string }[];
};

const LOOKS = [
  ['light', { colorScheme: 'light', viewport: { width: 1_280, height: 860 } }],
  ['dark', { colorScheme: 'dark', viewport: { width: 1_280, height: 860 } }],
  ['narrow', { colorScheme: 'light', viewport: { width: 390, height: 844 } }],
] as const;

describe.skipIf(noBrowserReason !== null)('the console in a real browser', () => {
  let system: System;
  let browser: Browser;
  let context: BrowserContext | undefined;

  beforeAll(async () => {
    system = await startSystem({ workers: 1 });
    browser = await openBrowser();
    const tenants = ['acme', 'globex', 'initech'];
    await system.addRows(
      tenants.flatMap((tenant) =>
        Array.from({ length: 40 }, (_, n) => ({ tenant, text: `${tenant} insight ${n}` })),
      ),
    );
    await system.backfill('?target=notes');
    await system.addRows([
      ...Array.from({ length: 9 }, (_, n) => ({ tenant: 'acme', text: `new insight ${n}` })),
      { tenant: 'acme', text: ' ' },
    ]);
  }, 360_000);
  afterAll(async () => {
    await browser?.close();
    await system?.close();
  });
  afterEach(() => context?.close());

  async function open(options: Parameters<Browser['newContext']>[0] = {}): Promise<Page> {
    // axe is put into the page; nobody else may put anything there.
    context = await browser.newContext({ ...options, bypassCSP: true });
    const page = await context.newPage();
    page.setDefaultTimeout(15_000);
    await page.goto(`${system.url}/`);
    await page.getByLabel('Admin secret').fill(ADMIN_SECRET);
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.waitForURL('**/admin');
    return page;
  }

  test.each(LOOKS)(
    'shows every page well when it is %s: nothing serious for axe, and no page wider than the screen',
    async (name, look) => {
      const page = await open(look);
      const watched = watchPage(page);
      for (const path of PAGES) {
        await page.goto(`${system.url}/admin${path}`);
        await takeScreenshot(page, `console-${path.slice(1) || 'overview'}-${name}`);
        await page.evaluate(AXE);
        const found = (await page.evaluate('axe.run()')) as { violations: Violation[] };
        const serious = found.violations.filter(
          ({ impact }) => impact === 'serious' || impact === 'critical',
        );
        expect(
          serious.map(({ id, nodes }) => [id, nodes[0]?.html]),
          path,
        ).toEqual([]);
        const overflow = await page.evaluate(
          'document.documentElement.scrollWidth - document.documentElement.clientWidth',
        );
        expect(overflow, path).toBeLessThanOrEqual(0);
      }
      expect(watched).toEqual({ complaints: [], foreign: [] });
    },
  );

  test('leads from the overview to a run that fills what is missing, by the keyboard alone', async () => {
    const page = await open();
    expect(await page.getByText('Start a run: 9 rows are missing.').isVisible()).toBe(true);
    await page.getByRole('region', { name: 'notes' }).getByRole('link', { name: 'Start a run' }).focus();
    await page.keyboard.press('Enter');
    await page.waitForURL('**/start?**');
    await page.getByRole('button', { name: /^Start the run/ }).focus();
    await page.keyboard.press('Enter');
    await page.waitForURL('**/runs/**');
    expect(await page.getByRole('status').textContent()).toBe('The run has started.');
    const [, runId = ''] = /runs\/([\w-]+)/.exec(page.url()) ?? [];
    await system.settled(runId);
    await page.reload();
    await takeScreenshot(page, 'console-run-light');
    expect(await page.getByText('Successfully backfilled 9 embeddings.').first().isVisible()).toBe(true);
  });
});
