/**
 * `npm run build`: bundles the programs into `dist/bundle`, from where `src/api.ts` and `src/worker.ts` load them.
 *
 * Does nothing when the bundle is up to date, or when esbuild is not installed: the programs then run from their sources.
 */
import { copyFileSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { BUNDLE_FOLDER, isBundleFresh } from '../../src/start.ts';

const SOURCES = fileURLToPath(new URL('../../src', import.meta.url));
/** Read files of their own packages when they are used. */
const EXTERNAL = ['@bull-board/*', '@fastify/swagger-ui'];
/** CommonJS packages in the bundle still ask for Node's own modules by `require`. */
const BANNER = "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);";

if (isBundleFresh()) process.exit(0);
const esbuild = await import('esbuild').catch(() => undefined);
if (esbuild === undefined) {
  console.error(
    'build: esbuild is not installed, so the programs run from their sources, which takes longer to start',
  );
  process.exit(0);
}

// Made beside and moved into place, so that a process that starts meanwhile finds the old one or the new one.
const building = `${BUNDLE_FOLDER}.${process.pid}`;
mkdirSync(building, { recursive: true });
await esbuild.build({
  entryPoints: ['api-main', 'worker-main'].map((name) => `${SOURCES}/${name}.ts`),
  outdir: building,
  bundle: true,
  splitting: true,
  platform: 'node',
  format: 'esm',
  target: 'node24',
  external: EXTERNAL,
  banner: { js: BANNER },
  logLevel: 'warning',
});
copyFileSync(`${SOURCES}/pacing/pace.lua`, `${building}/pace.lua`);
rmSync(BUNDLE_FOLDER, { recursive: true, force: true });
renameSync(building, BUNDLE_FOLDER);
