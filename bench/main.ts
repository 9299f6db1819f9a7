/**
 * `npm run bench [name...]`: measures the product and prints tables; without a name, all but the longest.
 *
 * `npm run bench versus -- --update` puts the tables into `docs/benchmarks.md`.
 *
 * Needs `TEST_DATABASE_URL`. What is compared is compared within one run: rates of a machine that does other things too
 * say little.
 */
import { fairness } from './fairness.ts';
import { memory } from './memory.ts';
import { few, large, scale, tenants } from './scale.ts';
import { slowAccounts } from './slow-accounts.ts';
import { storm } from './storm.ts';
import { throughput } from './throughput.ts';
import { untold } from './untold.ts';
import { versus } from './versus.ts';
import { writes } from './writes.ts';

const BENCHES: Readonly<Record<string, () => Promise<void>>> = {
  writes,
  throughput,
  memory,
  fairness,
  'slow-accounts': slowAccounts,
  storm,
  untold,
  scale,
  versus,
};

/** Parts of `scale`, and what takes a quarter of an hour and 5 GB of disk: only by name. */
const BY_NAME: typeof BENCHES = {
  'scale-few': few,
  'scale-tenants': tenants,
  'scale-1m': () => large(1_000_000),
  'scale-10m': () => large(10_000_000),
};

const all = { ...BENCHES, ...BY_NAME };
const names = process.argv.slice(2).filter((argument) => argument !== '--update');
const unknown = names.filter((name) => !Object.hasOwn(all, name));
if (unknown.length > 0) {
  console.error(`There is no benchmark ${unknown.join(', ')}; there are ${Object.keys(all).join(', ')}.`);
  process.exit(1);
}
for (const name of names.length === 0 ? Object.keys(BENCHES) : names) await all[name]?.();
