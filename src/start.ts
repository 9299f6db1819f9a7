/**
 * Loads a program from its bundle if there is one that is up to date, else from its sources.
 *
 * A worker loads a thousand small modules, most of them Drizzle's: 1.5 s of CPU and 280 MB. From one file it takes 0.3 s and
 * 110 MB (docs/decisions/0014-bundle.md). The sources stay the program: nobody has to build anything to run or change it.
 */
import { readdirSync, statSync } from 'node:fs';
import { enableCompileCache } from 'node:module';
import { fileURLToPath } from 'node:url';

export type Program = 'api-main' | 'worker-main';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
export const BUNDLE_FOLDER = `${ROOT}dist/bundle`;

/** Runs a program in this process. Resolves when it is loaded; it then runs until a signal ends it. */
export async function startProgram(program: Program): Promise<void> {
  enableCompileCache();
  const file = isBundleFresh() ? `${BUNDLE_FOLDER}/${program}.js` : `${ROOT}src/${program}.ts`;
  await import(file);
}

/** Whether the bundle was made after the last change of what it was made from. */
export function isBundleFresh(): boolean {
  const madeAtMs = changedAtMs(`${BUNDLE_FOLDER}/worker-main.js`);
  if (madeAtMs === undefined) return false;
  const sources = readdirSync(`${ROOT}src`, { recursive: true, encoding: 'utf8' }).map(
    (name) => `${ROOT}src/${name}`,
  );
  return [`${ROOT}package.json`, ...sources].every((path) => (changedAtMs(path) ?? 0) <= madeAtMs);
}

function changedAtMs(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs;
}
