/**
 * `npm run bench [name...]`: measures the product and prints tables; all of them without a name.
 *
 * Needs `TEST_DATABASE_URL`. What is compared is compared within one run: rates of a machine that does other things too
 * say little.
 */
import { fairness } from './fairness.ts';
import { memory } from './memory.ts';
import { storm } from './storm.ts';
import { throughput } from './throughput.ts';
import { writes } from './writes.ts';

const BENCHES: Readonly<Record<string, () => Promise<void>>> = {
  writes,
  throughput,
  memory,
  fairness,
  storm,
};

const names = process.argv.slice(2);
const unknown = names.filter((name) => !Object.hasOwn(BENCHES, name));
if (unknown.length > 0) {
  console.error(`There is no benchmark ${unknown.join(', ')}; there are ${Object.keys(BENCHES).join(', ')}.`);
  process.exit(1);
}
for (const name of names.length === 0 ? Object.keys(BENCHES) : names) await BENCHES[name]?.();
