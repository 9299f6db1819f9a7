/**
 * `npm test` and `npm run test:all`: runs vitest, and says at the end what the quick suite left out.
 *
 * What follows `--` goes to vitest. A path among it replaces the folders of the quick suite: `npm test -- tests/system/demo`.
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** What a person waits for. The other folders hold crashes, whole installations and a browser. */
const QUICK = ['tests/unit', 'tests/story', 'tests/api'];
const SLOW = ['tests/system', 'tests/browser'];

const [suite, ...args] = process.argv.slice(2);
const isQuick = suite === 'quick' && !args.some((arg) => arg.startsWith('tests/'));
const vitest = fileURLToPath(new URL('../../node_modules/vitest/vitest.mjs', import.meta.url));
const child = spawn(process.execPath, [vitest, 'run', ...(isQuick ? QUICK : []), ...args], {
  cwd: ROOT,
  stdio: 'inherit',
});
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
child.once('close', (code, signal) => {
  if (isQuick) console.log(leftOut());
  process.exitCode = code ?? (signal === 'SIGINT' ? 130 : 1);
});

function leftOut(): string {
  const files = SLOW.flatMap((folder) => readdirSync(`${ROOT}${folder}`)).filter((name) =>
    name.endsWith('.test.ts'),
  );
  return [
    `\nNot run: the ${files.length} files of ${SLOW.join(' and ')} (whole processes, crashes, installation, a real browser).`,
    'Run them too: npm run test:all          One of them: npm test -- tests/system/demo.test.ts',
  ].join('\n');
}
