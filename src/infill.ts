/** `infill`: the command line, over the HTTP API. */
import { existsSync } from 'node:fs';
import { enableCompileCache } from 'node:module';

enableCompileCache();
if (existsSync('.env')) process.loadEnvFile();
const { runCommandLine } = await import('./cli/main.ts');

// Whoever reads may stop before the end, as `head` does.
process.stdout.on('error', () => process.exit(0));
const interrupted = new AbortController();
process.on('SIGINT', () => interrupted.abort());
process.exitCode = await runCommandLine(process.argv.slice(2), {
  env: process.env,
  stdin: process.stdin,
  write: (text) => void process.stdout.write(text),
  writeError: (text) => void process.stderr.write(text),
  isTerminal: process.stdout.isTTY === true,
  interrupted: interrupted.signal,
});
