/** A place where a process of the product runs: killed, frozen and started again, as an orchestrator would. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export type SlotOptions = {
  /** `api`, `worker-0`: also the name of its log file. */
  readonly name: string;
  /** Relative to this file. */
  readonly entry: string;
  /** Log event that says that it is ready. */
  readonly readyEvent: string;
  /** Where its log goes, and where it runs. */
  readonly folder: string;
  readonly env: Readonly<Record<string, string>>;
  /** Called with each line of its log. */
  readonly onLine: (line: string) => void;
  /** Called when it ended although nobody ended it. */
  readonly onCrash: (what: string) => void;
};

const READY_TIMEOUT_MS = 60_000;
const TERM_TIMEOUT_MS = 30_000;
const CRASH_PAUSE_MS = 500;
const LAST_LINES = 5;

export class ProductSlot {
  readonly #options: SlotOptions;
  #child: ChildProcess | undefined;
  #ended: Promise<string> = Promise.resolve('never started');
  /** True while the slot is meant to hold a process. */
  #wanted = false;
  #frozen = false;
  #ready = false;

  constructor(options: SlotOptions) {
    this.#options = options;
  }

  get name(): string {
    return this.#options.name;
  }

  get isAtWork(): boolean {
    return (
      this.#ready &&
      this.#wanted &&
      !this.#frozen &&
      this.#child?.exitCode === null &&
      this.#child.signalCode === null
    );
  }

  /** Starts the process and waits until it is ready. @throws {Error} when that takes longer than a minute. */
  async start(): Promise<void> {
    const { entry, folder, name, env, readyEvent, onLine } = this.#options;
    const preload = new URL('../demo/end-with-parent.ts', import.meta.url).href;
    const file = fileURLToPath(new URL(entry, import.meta.url));
    const child = spawn(process.execPath, ['--import', preload, file], {
      cwd: folder,
      env,
      stdio: ['pipe', 'pipe', 'pipe'],
      // A group of its own: Ctrl-C reaches the suite alone, which ends things in their order.
      detached: true,
    });
    child.stdin.on('error', () => undefined);
    this.#child = child;
    this.#wanted = true;
    this.#ready = false;
    const log = createWriteStream(join(folder, `${name}.log`), { flags: 'a' });
    const last: string[] = [];
    const ready = new Promise<void>((resolve) => {
      const keep = (line: string) => {
        log.write(`${line}\n`);
        last.push(line);
        if (last.length > LAST_LINES) last.shift();
        onLine(line);
        if (line.includes(`"msg":"${readyEvent}"`)) {
          this.#ready = true;
          resolve();
        }
      };
      for (const stream of [child.stdout, child.stderr]) createInterface(stream).on('line', keep);
    });
    this.#ended = new Promise((resolve) => {
      child.once('close', (code, signal) => {
        log.end();
        resolve(signal ?? `status ${code}`);
        if (this.#child === child && this.#wanted) void this.#afterCrash(signal ?? `status ${code}`, last);
      });
    });
    await Promise.race([ready, this.#ended, late(READY_TIMEOUT_MS, `${name} is ready`)]);
  }

  /** SIGKILL; resolves when it is gone. */
  async kill(): Promise<void> {
    this.#wanted = false;
    this.#frozen = false;
    this.killNow();
    await this.#ended;
  }

  /** SIGTERM; resolves with how it ended: `status 0` when it put its work down in time. */
  async terminate(): Promise<string> {
    this.#wanted = false;
    this.#child?.kill('SIGTERM');
    try {
      return await Promise.race([this.#ended, late(TERM_TIMEOUT_MS, `${this.name} ends`)]);
    } catch (error) {
      this.killNow();
      await this.#ended;
      return (error as Error).message;
    }
  }

  freeze(): void {
    this.#frozen = true;
    this.#child?.kill('SIGSTOP');
  }

  thaw(): void {
    this.#frozen = false;
    this.#child?.kill('SIGCONT');
  }

  /** SIGKILL at once, which ends a frozen process too. */
  killNow(): void {
    this.#wanted = false;
    this.#child?.kill('SIGKILL');
  }

  async #afterCrash(how: string, last: readonly string[]): Promise<void> {
    this.#options.onCrash(`${this.name} ended by itself with ${how}: ${last.join(' | ').slice(-1_000)}`);
    await new Promise((resolve) => setTimeout(resolve, CRASH_PAUSE_MS));
    if (this.#wanted) await this.start().catch((error: Error) => this.#options.onCrash(error.message));
  }
}

async function late(timeoutMs: number, what: string): Promise<never> {
  return new Promise((_resolve, reject) => {
    setTimeout(() => reject(new Error(`waited ${timeoutMs} ms in vain: ${what}`)), timeoutMs).unref();
  });
}
