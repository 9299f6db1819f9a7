#!/usr/bin/env node
// Runs the command line on a Node that reads TypeScript: this one, or the one among the packages of the checkout.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const MAJOR_MIN = 24;
const [major] = process.versions.node.split('.').map(Number);
const entry = fileURLToPath(new URL('../src/infill.ts', import.meta.url));

if (major >= MAJOR_MIN) {
  await import(entry);
} else {
  const node = fileURLToPath(new URL('../node_modules/node/bin/node', import.meta.url));
  if (!existsSync(node)) {
    console.error(`infill needs Node ${MAJOR_MIN}, and this is Node ${process.versions.node}: run npm ci first, or install Node ${MAJOR_MIN}.`);
    process.exit(1);
  }
  // The command answers Ctrl-C itself.
  process.on('SIGINT', () => undefined);
  const { status, error } = spawnSync(node, [entry, ...process.argv.slice(2)], { stdio: 'inherit' });
  if (error) throw error;
  process.exit(status ?? 1);
}
