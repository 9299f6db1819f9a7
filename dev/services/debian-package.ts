/** Finds programs that Debian has as packages, and installs them where that may be done. */
import { execFileSync } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/**
 * Returns the path of a program: the first on PATH or where Debian keeps servers, or else one that this call installs.
 *
 * Installs only as root on Debian or Ubuntu, which takes about 10 s and says so on stderr.
 *
 * @throws {Error} with `howToInstall`, where it neither finds nor installs one.
 */
export function findProgram(name: string, howToInstall: string): string {
  const found = onPath(name);
  if (found !== undefined) return found;
  if (!canInstall()) throw new Error(howToInstall);

  console.error(`${name} is not installed: installing it with apt-get`);
  apt('update');
  apt('install', '-y', '--no-install-recommends', name);
  const installed = onPath(name);
  if (installed === undefined) throw new Error(howToInstall);
  return installed;
}

function onPath(name: string): string | undefined {
  const candidates = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin'].map((folder) =>
    join(folder, name),
  );
  return candidates.find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function canInstall(): boolean {
  return (
    process.getuid?.() === 0 &&
    onPath('apt-get') !== undefined &&
    /^ID(_LIKE)?=.*(debian|ubuntu)/m.test(osRelease())
  );
}

function osRelease(): string {
  try {
    return readFileSync('/etc/os-release', 'utf8');
  } catch {
    return '';
  }
}

function apt(...args: string[]): void {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  // stdout is where the caller announces the service; apt-get's own words go to stderr.
  execFileSync('apt-get', ['-qq', ...args], { env, stdio: ['ignore', 2, 2] });
}
