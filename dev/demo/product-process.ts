import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { DemoFailure } from './failure.ts';
import { cut } from './terminal.ts';

/** The API or a worker, as a process of its own. */
export type ProductProcess = {
  readonly name: string;
  readonly pid: number;
  /**
   * Resolves when it is ready for work.
   *
   * @throws {DemoFailure} when it ends before that, or takes too long.
   */
  ready(): Promise<void>;
  /** The last lines of its log, made short for a person. */
  logTail(): string[];
  /** Resolves when the process has ended, with what it ended with. */
  readonly ended: Promise<string>;
  /** SIGTERM, and SIGKILL when that does not help. Safe to repeat. */
  stop(): Promise<void>;
};

export type ProductProcessOptions = {
  /** How the demo speaks of it: `API`, `worker`. */
  readonly name: string;
  /** Relative to this file. */
  readonly entry: string;
  /** Log event that says that it is ready. */
  readonly readyEvent: string;
  /** Where it runs: not in the repository, whose `.env` is none of the demo's business. */
  readonly folder: string;
  /** All of its environment. */
  readonly env: Readonly<Record<string, string>>;
};

const READY_TIMEOUT_MS = 30_000;
const KILL_AFTER_MS = 5_000;
const TAIL_LINES = 12;
const LOG_LINE_LETTERS = 240;

/** Starts an entry of the product. It ends with `stop()`, or by itself when this process is gone. */
export function startProductProcess(options: ProductProcessOptions): ProductProcess {
  const preload = new URL('./end-with-parent.ts', import.meta.url).href;
  const entry = fileURLToPath(new URL(options.entry, import.meta.url));
  const child = spawn(process.execPath, ['--import', preload, entry], {
    cwd: options.folder,
    env: options.env,
    stdio: ['pipe', 'pipe', 'pipe'],
    // A group of its own: Ctrl-C in a terminal reaches the demo alone, which ends things in their order.
    detached: true,
  });
  child.stdin.on('error', () => {});
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) => resolve(signal ?? `status ${code}`));
  });

  const tail: string[] = [];
  const saidReady = new Promise<void>((resolve) => {
    const keep = (line: string) => {
      // The API's answers to the demo itself explain nothing, and there are many.
      if (line.includes('"msg":"request_done"') && line.includes('"level":"info"')) return;
      tail.push(shortLine(line));
      if (tail.length > TAIL_LINES) tail.shift();
      if (line.includes(`"msg":"${options.readyEvent}"`)) resolve();
    };
    createInterface(child.stdout).on('line', keep);
    createInterface(child.stderr).on('line', keep);
  });

  const started: ProductProcess = {
    name: options.name,
    pid: child.pid ?? 0,
    async ready() {
      const outcome = await Promise.race([
        saidReady,
        ended.then((how) => `ended with ${how} while starting`),
        setTimeout(READY_TIMEOUT_MS, `is not ready after ${READY_TIMEOUT_MS / 1_000} s`, { ref: false }),
      ]);
      if (outcome !== undefined) throw new DemoFailure(`The ${options.name} ${outcome}.`, started);
    },
    logTail: () => [...tail],
    ended,
    async stop() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
      void setTimeout(KILL_AFTER_MS, undefined, { ref: false }).then(() => child.kill('SIGKILL'));
      await ended;
    },
  };
  return started;
}

/** A line of the log as `12:34:56 warn redis_error code=ECONNREFUSED`; stacks are left out. Other lines stay as they are. */
function shortLine(line: string): string {
  let event: Record<string, unknown>;
  try {
    event = JSON.parse(line) as Record<string, unknown>;
  } catch {
    return line;
  }
  const { time, level, msg, pid: _pid, hostname: _hostname, name: _name, ...fields } = event;
  const shown = Object.entries(fields).map(([name, value]) => `${name}=${shortValue(value)}`);
  return cut([String(time).slice(11, 19), level, msg, ...shown].join(' '), LOG_LINE_LETTERS);
}

function shortValue(value: unknown): string {
  if (typeof value !== 'object' || value === null) return String(value);
  const { message } = value as { message?: unknown };
  return typeof message === 'string' ? JSON.stringify(message) : JSON.stringify(value);
}
