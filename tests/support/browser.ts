import { execFileSync } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];
const INSTALL_TIMEOUT_MS = 5 * 60_000;

const ARGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/**
 * Why tests with a browser are left out, or null: only where `INFILL_NO_BROWSER=1` says so, never because one is absent.
 */
export const noBrowserReason =
  process.env.INFILL_NO_BROWSER === '1'
    ? 'INFILL_NO_BROWSER=1: the tests in a real browser are left out'
    : null;

/**
 * Starts a real, headless Chromium. As root on Debian or Ubuntu it is installed when absent.
 *
 * @throws {Error} that says how to install it, where that cannot be done from here.
 */
export async function openBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: findChromium() ?? installChromium(), args: ARGS });
}

function findChromium(): string | undefined {
  const folders = ['/usr/bin', ...(process.env.PATH ?? '').split(delimiter)].filter(
    (folder) => folder !== '',
  );
  const candidates = folders.flatMap((folder) => NAMES.map((name) => join(folder, name)));
  return candidates.find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function installChromium(): string {
  const isDebian =
    existsSync('/etc/os-release') &&
    /^ID(_LIKE)?=.*(debian|ubuntu)/m.test(readFileSync('/etc/os-release', 'utf8'));
  if (process.getuid?.() === 0 && isDebian) {
    const options = {
      timeout: INSTALL_TIMEOUT_MS,
      stdio: 'ignore',
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    } as const;
    execFileSync('apt-get', ['update'], options);
    execFileSync('apt-get', ['install', '--yes', '--no-install-recommends', 'chromium'], options);
  }
  const found = findChromium();
  if (found === undefined) {
    throw new Error(
      'no Chromium found on PATH: install it (Debian: apt-get install chromium), or set INFILL_NO_BROWSER=1 to leave these tests out',
    );
  }
  return found;
}

/** Notes what a page complains about, and every request that it makes to another server. */
export function watchPage(page: Page): { readonly complaints: string[]; readonly foreign: string[] } {
  const complaints: string[] = [];
  const foreign: string[] = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error') complaints.push(message.text());
  });
  page.on('response', (response) => {
    const { hostname, protocol } = new URL(response.url());
    if (protocol.startsWith('http') && hostname !== '127.0.0.1') foreign.push(response.url());
  });
  return { complaints, foreign };
}

/** Keeps a picture of the page in the folder of `INFILL_SCREENSHOTS`, if that is set. */
export async function takeScreenshot(page: Page, name: string): Promise<void> {
  const folder = process.env.INFILL_SCREENSHOTS;
  if (folder === undefined || folder === '') return;
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`) });
}
