/** How the demo fails and ends. That it works, CI shows by running it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

const MAIN = fileURLToPath(new URL('../../dev/demo/main.ts', import.meta.url));
const hasProc = existsSync('/proc/self/environ');

describe('the demo', () => {
  let mark: string;
  let started: ChildProcess | undefined;

  beforeEach(() => {
    mark = randomUUID();
  });
  afterEach(() => {
    started?.kill('SIGKILL');
  });

  test('ends at an unknown argument, and says which there are', async () => {
    const { ended, output } = start(['--forever']);

    expect(await ended).toBe(2);
    expect(output()).toContain("Unknown option '--forever'");
    expect(output()).toContain('npm run demo [-- --exit]');
  });

  test('says how to get Redis where there is none, without a stack, and leaves nothing behind', async () => {
    const path = await mkdtemp(join(tmpdir(), 'infill-demo-path-'));
    await symlink(process.execPath, join(path, 'node'));

    const { ended, output } = start(['--exit'], path);

    expect(await ended).toBe(1);
    expect(output()).toContain('redis-server was not found on PATH');
    expect(output()).toContain('The demo failed. Redis: ');
    expect(output()).not.toMatch(/^\s+at /m);
    await nothingIsLeft();
    await rm(path, { recursive: true });
  });

  test('ends everything that it started when it is interrupted', async () => {
    const { child, ended, output } = start(['--exit']);
    await vi.waitFor(() => expect(output()).toContain('✓ Redis'), { timeout: 50_000 });

    child.kill('SIGINT');

    expect(await ended).toBe(130);
    expect(output()).toContain('Stopping what was started.');
    await nothingIsLeft();
  });

  /** By `env`, which becomes the demo and adds to the variables that are there. */
  function start(args: readonly string[], path?: string) {
    const variables = [`INFILL_DEMO_TEST=${mark}`, ...(path === undefined ? [] : [`PATH=${path}`])];
    const child = spawn('env', [...variables, process.execPath, MAIN, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    started = child;
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => (output += chunk));
    const ended = new Promise<number | null>((resolve) => child.once('close', (code) => resolve(code)));
    return { child, ended, output: () => output };
  }

  /** Looks for processes that inherited this test's variable. */
  async function nothingIsLeft(): Promise<void> {
    if (!hasProc) return;
    await vi.waitFor(() => expect(marked()).toEqual([]), { timeout: 10_000 });
  }

  function marked(): string[] {
    const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
    return pids.filter((pid) => readProc(`/proc/${pid}/environ`).includes(mark));
  }
});

/** Empty for a process that has just ended, or is another user's. */
function readProc(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
