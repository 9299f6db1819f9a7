import { existsSync, readFileSync } from 'node:fs';

export type LockFile = {
  readonly packages: Readonly<
    Record<
      string,
      {
        readonly version?: string;
        readonly dev?: boolean;
        readonly devOptional?: boolean;
        readonly optional?: boolean;
        readonly license?: string;
      }
    >
  >;
};

export type LicensedPackage = { readonly name: string; readonly version: string; readonly licence: string };

/** Licences that let us ship what is under them, whatever we ship it with. */
const ALLOWED = [
  '0BSD',
  'Apache-2.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'BlueOak-1.0.0',
  'CC0-1.0',
  'ISC',
  'MIT',
  'MIT-0',
  'Python-2.0',
  'Unlicense',
  'Zlib',
];

/** The packages of a production install, each with the licence that it states; `unknown` where it states none. */
export function licencesOf({ packages }: LockFile, root: URL): LicensedPackage[] {
  return (
    Object.entries(packages)
      // What is `optional` and not there is for another kind of machine.
      .filter(([path, { dev, devOptional, optional }]) => {
        const isShipped = path !== '' && dev !== true && devOptional !== true;
        return isShipped && (optional !== true || existsSync(new URL(`${path}/package.json`, root)));
      })
      .map(([path, { version = '', license }]) => ({
        name: path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length),
        version,
        licence: license ?? statedIn(new URL(`${path}/package.json`, root)),
      }))
  );
}

/** Whether a licence lets us: of a choice one is enough, of several that hold together all are needed. */
export function allowedBy(licence: string): boolean {
  const choices = licence.replaceAll(/[()]/g, '').split(' OR ');
  return choices.some((choice) => choice.split(' AND ').every((one) => ALLOWED.includes(one.trim())));
}

function statedIn(file: URL): string {
  try {
    const { license, licenses } = JSON.parse(readFileSync(file, 'utf8'));
    return license?.type ?? license ?? licenses?.[0]?.type ?? 'unknown';
  } catch {
    return 'unknown';
  }
}
