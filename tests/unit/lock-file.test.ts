import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { REPOSITORY } from '../support/dockerfile.ts';

type Locked = {
  version?: string;
  resolved?: string;
  optionalDependencies?: Readonly<Record<string, string>>;
};

const lock = readJson('package-lock.json') as { packages: Readonly<Record<string, Locked>> };
const manifest = readJson('package.json') as Record<
  'dependencies' | 'devDependencies',
  Record<string, string>
>;

test('every dependency is named with one exact version', () => {
  const versions = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies });

  expect(versions.filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([]);
});

test('the lock file names no registry', () => {
  expect(Object.entries(lock.packages).filter(([, { resolved }]) => resolved !== undefined)).toEqual([]);
});

// `npm ci` refuses a lock file without them. npm writes such a file when a registry lacks a package for another system.
test('the lock file holds the packages for every system, not just for the one it was written on', () => {
  const missing = Object.entries(lock.packages).flatMap(([path, { optionalDependencies }]) =>
    Object.keys(optionalDependencies ?? {}).filter((name) => !isLocked(path, name)),
  );

  expect(missing).toEqual([]);
});

/** Whether a package that stands at `path` finds `name`, as Node looks for it: here, then in each folder above. */
function isLocked(path: string, name: string): boolean {
  if (`${path === '' ? '' : `${path}/`}node_modules/${name}` in lock.packages) return true;
  return path !== '' && isLocked(path.slice(0, Math.max(0, path.lastIndexOf('/node_modules/'))), name);
}

function readJson(file: string): unknown {
  return JSON.parse(readFileSync(join(REPOSITORY, file), 'utf8'));
}
