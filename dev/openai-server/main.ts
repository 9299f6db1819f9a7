/**
 * The server as a process of its own:
 *
 *     node dev/openai-server/main.ts --port 8080 --encoder use --config keys.json
 *
 * `--config` names a JSON file, or is the JSON itself; what it holds is in `settings.ts`. Environment variables
 * `OPENAI_SERVER_PORT`, `OPENAI_SERVER_CONTROL_PORT`, `OPENAI_SERVER_ENCODER` and `OPENAI_SERVER_CONFIG` mean the
 * same; arguments come first. Prints one JSON line `{url, port, controlUrl, pid}` when it listens. SIGTERM and SIGINT
 * stop it; with `--stop-with-input` the end of its standard input ends it at once, so that it never outlives who started it.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { onParentGone } from '../services/child-service.ts';
import { startControl } from './control.ts';
import { startOpenAiServer } from './server.ts';
import { ServerConfig } from './settings.ts';

const { values } = parseArgs({
  options: {
    port: { type: 'string' },
    'control-port': { type: 'string' },
    encoder: { type: 'string' },
    config: { type: 'string' },
    'accept-any-key': { type: 'boolean' },
    'stop-with-input': { type: 'boolean' },
  },
});
const { env } = process;

// Before the second that the encoder takes to load.
if (values['stop-with-input']) onParentGone();

const port = values.port ?? env.OPENAI_SERVER_PORT;
const encoder = values.encoder ?? env.OPENAI_SERVER_ENCODER;
const config = ServerConfig.parse({
  ...readConfig(values.config ?? env.OPENAI_SERVER_CONFIG),
  ...(port !== undefined && { port: Number(port) }),
  ...(encoder !== undefined && { encoder }),
  ...(values['accept-any-key'] && { acceptAnyKey: true }),
});

const server = await startOpenAiServer(config);
const control = await startControl(
  server,
  Number(values['control-port'] ?? env.OPENAI_SERVER_CONTROL_PORT ?? 0),
);
const { url, port: listening } = server;
console.log(JSON.stringify({ url, port: listening, controlUrl: control.url, pid: process.pid }));

for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, stop);

async function stop() {
  await Promise.all([server.close(), control.close()]);
  process.exit(0);
}

function readConfig(given: string | undefined): object {
  if (given === undefined) return {};
  return JSON.parse(given.trimStart().startsWith('{') ? given : readFileSync(given, 'utf8'));
}
