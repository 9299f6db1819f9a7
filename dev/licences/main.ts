/**
 * `npm run licences`: the packages that a production install brings, by licence, and what is known to be wrong with them.
 *
 * Ends with status 1 when a licence is not on the list of those that we may ship under, or when a vulnerability of at least
 * `high` is known. Where the registry cannot be asked, that is said, and the licences alone decide.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { allowedBy, type LockFile, licencesOf } from './licences.ts';

const root = new URL('../../', import.meta.url);
const lock = JSON.parse(readFileSync(new URL('package-lock.json', root), 'utf8')) as LockFile;

const byLicence = Map.groupBy(licencesOf(lock, root), ({ licence }) => licence);
for (const [licence, packages] of [...byLicence].toSorted(([a], [b]) => a.localeCompare(b))) {
  console.log(
    `${licence} (${packages.length}): ${packages.map(({ name, version }) => `${name} ${version}`).join(', ')}`,
  );
}
const refused = [...byLicence].filter(([licence]) => !allowedBy(licence)).flatMap(([, packages]) => packages);
for (const { name, licence } of refused) console.error(`NOT ALLOWED: ${name} is under ${licence}`);

console.log('\nKnown vulnerabilities of these packages:');
const audit = spawnSync('npm', ['audit', '--omit=dev', '--json'], {
  cwd: root,
  encoding: 'utf8',
  timeout: 60_000,
});
const counts = countsOf(audit.stdout);
if (counts === undefined) console.log('unknown: the package registry did not answer `npm audit`.');
else
  console.log(
    Object.entries(counts)
      .map(([severity, count]) => `${severity} ${count}`)
      .join(', '),
  );

const isBad = counts !== undefined && (counts['high'] ?? 0) + (counts['critical'] ?? 0) > 0;
process.exitCode = refused.length > 0 || isBad ? 1 : 0;

function countsOf(json: string): Readonly<Record<string, number>> | undefined {
  try {
    return JSON.parse(json).metadata?.vulnerabilities;
  } catch {
    return undefined;
  }
}
