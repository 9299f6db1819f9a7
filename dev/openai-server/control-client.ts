/** Starts the server as a process of its own and steers it: for the demo, benches and tests that run real processes. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { z } from 'zod';
import type { Account } from './accounts.ts';
import type { LedgerEntry, LedgerSummary } from './ledger.ts';
import type {
  FaultRule,
  KeyConfig,
  KeyState,
  Latency,
  LimitsConfig,
  Outage,
  Poison,
  ServerConfig,
} from './settings.ts';

/** The server's methods of the same names, from another process. Each throws with the server's words when refused. */
export type OpenAiControl = {
  status(): Promise<LedgerSummary & { url: string; outage: Outage }>;
  putKey(key: KeyConfig): Promise<Account>;
  removeKey(key: string): Promise<void>;
  setKeyState(key: string, state: KeyState): Promise<void>;
  setLimits(limits: LimitsConfig): Promise<void>;
  /** Returns the rule's id. */
  addFault(rule: z.input<typeof FaultRule>): Promise<number>;
  /** One rule, or with no id all. */
  clearFaults(id?: number): Promise<void>;
  setOutage(outage: Outage): Promise<void>;
  setLatency(latency: Latency): Promise<void>;
  setPoison(poison: readonly Poison[]): Promise<void>;
  /** All calls since the last reset, or those of one key; reads page by page. */
  ledger(key?: string): Promise<LedgerEntry[]>;
  resetLedger(): Promise<void>;
};

export type OpenAiServerProcess = {
  readonly url: string;
  readonly port: number;
  readonly controlUrl: string;
  readonly pid: number;
  readonly control: OpenAiControl;
  /** Resolves when the process has ended. The second call does nothing. */
  stop(): Promise<void>;
};

/** @throws when the process ends before it listens; what it wrote to its standard error is on ours. */
export async function spawnOpenAiServer(config: ServerConfig = {}): Promise<OpenAiServerProcess> {
  const main = fileURLToPath(new URL('./main.ts', import.meta.url));
  // A file, since an argument holds 128 KiB at most, and the keys of a thousand tenants are more.
  const folder = await mkdtemp(join(tmpdir(), 'openai-server-'));
  const file = join(folder, 'config.json');
  await writeFile(file, JSON.stringify(config), { mode: 0o600 });
  const child = spawn(process.execPath, [main, '--stop-with-input', '--config', file], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  const lines = createInterface(child.stdout);
  const [line] = await Promise.race([
    once(lines, 'line'),
    exited.then(([code]) =>
      Promise.reject(new Error(`the OpenAI server ended with ${code} before it listened`)),
    ),
  ]).finally(() => rm(folder, { recursive: true, force: true }));
  const { url, port, controlUrl, pid } = JSON.parse(line);

  return {
    url,
    port,
    controlUrl,
    pid,
    control: openAiControl(controlUrl),
    async stop() {
      // Nothing of it is worth keeping.
      child.kill('SIGKILL');
      await exited;
    },
  };
}

/** `controlUrl` as the process prints it. */
export function openAiControl(controlUrl: string): OpenAiControl {
  async function call(method: string, path: string, body?: unknown) {
    const response = await fetch(`${controlUrl}${path}`, {
      method,
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    const answered = await response.json();
    if (!response.ok) throw new Error(`${method} ${path}: ${JSON.stringify(answered)}`);
    // The client of a server of the same checkout: its answers have the types of its functions.
    // biome-ignore lint/suspicious/noExplicitAny: see above
    return answered as any;
  }

  return {
    status: () => call('GET', '/status'),
    putKey: (key) => call('PUT', '/keys', key),
    removeKey: (key) => call('DELETE', '/keys', { key }),
    setKeyState: (key, state) => call('PUT', '/keys/state', { key, state }),
    setLimits: (limits) => call('PUT', '/limits', limits),
    addFault: async (rule) => (await call('POST', '/faults', rule)).id,
    clearFaults: (id) => call('DELETE', id === undefined ? '/faults' : `/faults?id=${id}`),
    setOutage: (outage) => call('PUT', '/outage', { outage }),
    setLatency: (latency) => call('PUT', '/latency', latency),
    setPoison: (poison) => call('PUT', '/poison', poison),
    resetLedger: () => call('DELETE', '/ledger'),
    async ledger(key) {
      const entries: LedgerEntry[] = [];
      for (;;) {
        const { calls } = await call('GET', `/ledger?after=${entries.at(-1)?.call ?? 0}`);
        if (calls.length === 0) break;
        entries.push(...calls);
      }
      return key === undefined ? entries : entries.filter((entry) => entry.key === key);
    },
  };
}
