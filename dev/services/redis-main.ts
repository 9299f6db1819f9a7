/**
 * The process behind `startEmbeddedRedis`: runs a `redis-server` and ends it when its own parent is gone, which
 * redis-server alone would not notice.
 *
 * `node redis-main.ts [port]`; on a free port without one.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { onParentGone } from './child-service.ts';
import { findRedisServer } from './redis-server-binary.ts';

/** Between asking for a free port and listening on it, somebody else may take it. */
const PORT_ATTEMPTS_MAX = 5;

const [wantedPort] = process.argv.slice(2);
const binary = orEnd(findRedisServer);
const folder = mkdtempSync(join(tmpdir(), 'infill-redis-'));

let server: ChildProcess | undefined;
onParentGone(async () => {
  if (server !== undefined && server.exitCode === null && server.signalCode === null) {
    server.removeListener('exit', endWithServer);
    // Nothing is kept, so there is nothing to wait for.
    server.kill('SIGKILL');
    await once(server, 'exit');
  }
  removeFolder();
});

const port = await start();
console.log(JSON.stringify({ url: `redis://127.0.0.1:${port}`, pid: server?.pid }));

async function start(): Promise<number> {
  let output = '';
  for (let attempt = 1; attempt <= PORT_ATTEMPTS_MAX; attempt += 1) {
    const tried = wantedPort === undefined ? await freePort() : Number(wantedPort);
    const started = await tryToStart(tried);
    if (started.ready) return tried;
    output = started.output;
    if (wantedPort !== undefined) break;
  }
  removeFolder();
  return endWith(`redis-server does not start: ${output}`);
}

/** Resolves when the server answers, or has ended; then with what it said. */
async function tryToStart(port: number): Promise<{ ready: boolean; output: string }> {
  const options = {
    port,
    bind: '127.0.0.1',
    dir: folder,
    save: '',
    appendonly: 'no',
    'maxmemory-policy': 'noeviction',
  };
  const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const started = spawn(binary, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  server = started;
  let output = '';
  for await (const line of createInterface({ input: started.stdout })) {
    output += `${line}\n`;
    if (line.includes('Ready to accept connections')) {
      started.stdout.resume();
      started.once('exit', endWithServer);
      return { ready: true, output };
    }
  }
  return { ready: false, output };
}

function orEnd<T>(attempt: () => T): T {
  try {
    return attempt();
  } catch (error) {
    return endWith(error instanceof Error ? error.message : String(error));
  }
}

/** Says why on stderr, which the parent shares, without a stack that would hide it. */
function endWith(reason: string): never {
  console.error(reason);
  process.exit(1);
}

/** Without its server this process has no purpose, and its end tells the parent. */
function endWithServer(): void {
  removeFolder();
  process.exit(1);
}

function removeFolder(): void {
  rmSync(folder, { recursive: true, force: true });
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const address = probe.address();
  probe.close();
  await once(probe, 'close');
  if (address === null || typeof address === 'string') throw new Error('a TCP server has a port');
  return address.port;
}
