/** What `sslmode` and its relatives mean for Node. */
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { type ConnectionOptions, checkServerIdentity, type PeerCertificate } from 'node:tls';
import type { PostgresAddress } from '../core/postgres-address.ts';

/**
 * What each `sslmode` means, as in libpq, but that `allow` is the same as `prefer`. Without `sslrootcert` the two modes
 * that verify trust the certificate authorities that Node trusts.
 */
export function tlsOf({ ssl, hosts, socketPath }: PostgresAddress): false | 'prefer' | ConnectionOptions {
  if (ssl.mode === 'disable' || socketPath !== undefined) return false;
  if (ssl.mode === 'allow' || ssl.mode === 'prefer') return 'prefer';
  const host = hosts?.[0]?.host ?? 'localhost';
  const hasOwnRoot = ssl.rootCertificate !== undefined && ssl.rootCertificate !== 'system';
  return {
    // postgres.js hands Node an open socket, so that Node knows no host: it would send no name, and compare with "localhost".
    servername: isIP(host) ? '' : host,
    checkServerIdentity: (_name: string, certificate: PeerCertificate) =>
      ssl.mode === 'verify-full' ? checkServerIdentity(host, certificate) : undefined,
    rejectUnauthorized: ssl.mode !== 'require' || hasOwnRoot,
    ...(hasOwnRoot ? { ca: certificateFile('sslrootcert', ssl.rootCertificate) } : {}),
    ...(ssl.certificate === undefined ? {} : { cert: certificateFile('sslcert', ssl.certificate) }),
    ...(ssl.key === undefined ? {} : { key: certificateFile('sslkey', ssl.key) }),
  };
}

function certificateFile(parameter: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Error(`DATABASE_URL: cannot read the file that ${parameter} names (${code})`);
  }
}
