import { execFile } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, expect, test } from 'vitest';
import { REPOSITORY } from '../support/dockerfile.ts';

/** Stands for npm: writes down how it was called, and installs a Node that says what `FAKE_NODE` holds. */
const FAKE_NPM = `#!/usr/bin/env bash
echo "$*" >>calls
[[ $PATH == *node_modules* ]] && echo "npm runs on the Node that it replaces" >&2
give_node() { printf '#!/bin/sh\\necho %s\\n' "$1" >node_modules/.bin/node; chmod +x node_modules/.bin/node; }
if [[ $1 == ci ]]; then
  rm -rf node_modules
  mkdir -p node_modules/.bin node_modules/node
  touch node_modules/.package-lock.json node_modules/.bin/vitest
  chmod +x node_modules/.bin/vitest
  [[ -z $NODE_FROM_CI ]] || give_node "$NODE_FROM_CI"
fi
if [[ $1 == rebuild && -n $NODE_FROM_REBUILD ]]; then give_node "$NODE_FROM_REBUILD"; fi
`;

/** Stands for the Node of the machine, which is too old. */
const FAKE_NODE = `#!/bin/sh
echo v20.20.2
`;

const folders: string[] = [];

afterEach(async () => {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true });
});

test('a fresh clone gets its dependencies, and the next time there is nothing to do or say', async () => {
  const clone = await freshClone();

  expect((await clone.setup()).stderr).toMatch(/installing dependencies[\s\S]*ready: Node v24\.21\.0/);
  expect(await clone.setup()).toEqual({ code: 0, stdout: '', stderr: '' });
  expect(clone.calls()).toEqual([expect.stringMatching(/^ci /)]);
});

test('a changed lock file installs again', async () => {
  const clone = await freshClone();
  await clone.setup();
  appendFileSync(join(clone.folder, 'package-lock.json'), '\n');

  await clone.setup();

  expect(clone.calls()).toHaveLength(2);
});

test('dependencies that somebody installed with npm are taken as they are', async () => {
  const clone = await freshClone();
  await clone.setup();
  rmSync(join(clone.folder, 'node_modules/.infill-setup'));

  expect((await clone.setup()).code).toBe(0);

  expect(clone.calls()).toHaveLength(1);
});

test('packages of development are installed whatever NODE_ENV says, and never on the Node that is replaced', async () => {
  const clone = await freshClone();

  const { stderr } = await clone.setup({ NODE_ENV: 'production' });

  expect(clone.calls()[0]).toContain('--include=dev');
  expect(stderr).not.toContain('npm runs on the Node that it replaces');
});

test('Node is installed when npm left out its install script', async () => {
  const clone = await freshClone();

  const { code } = await clone.setup({ NODE_FROM_CI: '', NODE_FROM_REBUILD: 'v24.21.0' });

  expect(code).toBe(0);
  expect(clone.calls()[1]).toMatch(/^rebuild node --ignore-scripts=false/);
});

test('without a Node 24 to be had it fails, says what to do, and tries again the next time', async () => {
  const clone = await freshClone();

  const { code, stderr } = await clone.setup({ NODE_FROM_CI: '' });

  expect(code).toBe(1);
  expect(stderr).toMatch(/Node 24 is needed, and this machine has 20\.20\.2/);
  expect((await clone.setup({ NODE_FROM_REBUILD: 'v24.21.0' })).code).toBe(0);
});

test('two at once install once', async () => {
  const clone = await freshClone();

  const results = await Promise.all([clone.setup(), clone.setup(), clone.setup()]);

  expect(results.map(({ code }) => code)).toEqual([0, 0, 0]);
  expect(clone.calls()).toHaveLength(1);
});

test('a setup that was killed does not hold up the next one', async () => {
  const clone = await freshClone();
  const killed = await promisify(execFile)('bash', ['-c', 'echo $$']);
  const { stdout: sum } = await promisify(execFile)('bash', ['-c', 'cksum <<<"$PWD" | cut -d " " -f 1'], {
    cwd: clone.folder,
  });
  const lock = join(clone.temporary, `infill-setup-${sum.trim()}.lock`);
  mkdirSync(lock);
  writeFileSync(join(lock, 'pid'), killed.stdout);

  expect((await clone.setup()).code).toBe(0);

  expect(existsSync(lock)).toBe(false);
});

/** A folder with the script and a lock file, and commands that stand for npm and Node. */
async function freshClone() {
  const root = await realpath(await mkdtemp(join(tmpdir(), 'infill-setup-test-')));
  folders.push(root);
  const [folder, commands, temporary] = ['clone', 'commands', 'tmp'].map((name) => join(root, name)) as [
    string,
    string,
    string,
  ];
  for (const path of [join(folder, 'dev'), commands, temporary]) mkdirSync(path, { recursive: true });
  copyFileSync(join(REPOSITORY, 'dev/setup'), join(folder, 'dev/setup'));
  writeFileSync(join(folder, 'package-lock.json'), '{}\n');
  for (const [name, script] of [
    ['npm', FAKE_NPM],
    ['node', FAKE_NODE],
  ] as const) {
    writeFileSync(join(commands, name), script);
    chmodSync(join(commands, name), 0o755);
  }

  return {
    folder,
    temporary,
    calls: () => readFileSync(join(folder, 'calls'), 'utf8').trim().split('\n'),
    /** Runs `dev/setup` as `npm test` does, with node_modules/.bin first on PATH. */
    setup(env: Readonly<Record<string, string>> = {}) {
      const path = [join(folder, 'node_modules/.bin'), commands, '/usr/local/bin', '/usr/bin', '/bin'].join(
        ':',
      );
      return new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
        execFile(
          join(folder, 'dev/setup'),
          { env: { PATH: path, TMPDIR: temporary, NODE_FROM_CI: 'v24.21.0', ...env } },
          (error, stdout, stderr) => resolve({ code: Number(error?.code ?? 0), stdout, stderr }),
        );
      });
    },
  };
}
