/** Why Postgres cannot be reached or used, in words that say what to change. */

const TROUBLES: readonly (readonly [RegExp, string])[] = [
  [
    /\b28P01\b|password authentication failed|SASL: .{0,200}password/i,
    'it refuses the password: check the user and the password in DATABASE_URL',
  ],
  [
    /no pg_hba\.conf entry.*(no encryption|SSL off)/i,
    'it takes no connection without TLS: add sslmode=require to DATABASE_URL',
  ],
  [
    /\b28000\b|no pg_hba\.conf entry/,
    'it does not let this user in from here: check the user in DATABASE_URL, and pg_hba.conf',
  ],
  [/\b3D000\b|no such database/, 'there is no database of the name in DATABASE_URL'],
  [
    /unsupported startup parameter/,
    'a pooler refuses a setting of the connection: set DATABASE_POOLER=transaction, and remove options from DATABASE_URL',
  ],
  [
    /Endpoint ID is not specified/,
    'Neon does not know which endpoint is meant: add sslmode=require to DATABASE_URL',
  ],
  [
    /Tenant or user not found/i,
    'the pooler does not know the user: Supabase wants user.project in DATABASE_URL',
  ],
  [/no such user/i, 'the pooler does not know the user in DATABASE_URL'],
  [
    /does not support SSL|CONNECTION_TLS_REFUSED|server does not support TLS/i,
    'it speaks no TLS: remove sslmode from DATABASE_URL, or switch TLS on there',
  ],
  [
    /SELF_SIGNED_CERT|UNABLE_TO_VERIFY|UNABLE_TO_GET_ISSUER|DEPTH_ZERO/,
    'its certificate is of an authority that is not known here: give the file of that authority as sslrootcert in DATABASE_URL',
  ],
  [/ERR_TLS_CERT_ALTNAME_INVALID/, 'its certificate is for another host than the one in DATABASE_URL'],
  [/CERT_HAS_EXPIRED/, 'its certificate has expired'],
  [
    /\b53300\b|too many clients|no more connections allowed/i,
    'it has no connection left: raise max_connections, or run fewer processes',
  ],
  [/\b57P03\b/, 'it is starting up or shutting down'],
  [/\b25006\b/, 'it is a standby and takes no writes: give the address of the primary in DATABASE_URL'],
  [/ENOTFOUND|EAI_AGAIN/, 'the name of its host in DATABASE_URL is not found'],
  [/ECONNREFUSED/, 'nothing listens at the host and port in DATABASE_URL: is it running?'],
  [/ENOENT/, 'there is no socket in the directory that DATABASE_URL names'],
  [
    /CONNECT_TIMEOUT|ETIMEDOUT|connection timeout|EHOSTUNREACH|ENETUNREACH/,
    'nothing answers at the host and port in DATABASE_URL: check both, and the firewall',
  ],
  [
    /CONNECTION_(?:CLOSED|ENDED|DESTROYED)|ECONNRESET|\b57P01\b/,
    'the connection was cut: it may be restarting',
  ],
  [/\b42501\b/, 'its user lacks a right (docs/operations.md lists those it needs)'],
];

/**
 * Undefined for an error that this list does not know. Nothing that the server says, and no part of the address, is in what is
 * returned.
 */
export function postgresTrouble(error: unknown): string | undefined {
  for (let at = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    // The message of a failed query repeats its parameters, which may say anything.
    const message = 'params' in at ? '' : at.message.slice(0, 500);
    const said = `${String((at as { code?: unknown }).code ?? '')} ${message}`;
    const found = TROUBLES.find(([pattern]) => pattern.test(said));
    if (found !== undefined) return found[1];
    for (const inner of (at as { errors?: unknown[] }).errors ?? []) {
      const words = postgresTrouble(inner);
      if (words !== undefined) return words;
    }
  }
  return undefined;
}
