/** What is wrong with a Redis, in words that say what to change. */

/** Redis answers errors with these words, ioredis and Node fail with these. The first that matches counts. */
const TROUBLES: readonly (readonly [RegExp, string | ((match: RegExpExecArray) => string)])[] = [
  [/READONLY/, 'it is a replica and takes no writes: give the address of the primary in REDIS_URL'],
  [/\bOOM\b/, 'it is full: raise its maxmemory, or remove what is not of Infill'],
  [/\bNOAUTH\b/, 'it wants a password: put it into REDIS_URL (redis://user:password@host:6379)'],
  [
    /\bWRONGPASS\b|invalid password|invalid username-password/,
    'it refuses the user or the password of REDIS_URL',
  ],
  [
    /NOPERM.{0,200}?'([a-z|]{1,30})' command/i,
    ([, command]) => `its user may not use the command ${command}: allow it in the ACL`,
  ],
  [
    /NOPERM/,
    'its user may not use the keys of Infill: allow all keys that begin with REDIS_PREFIX in braces in the ACL',
  ],
  [/DB index is out of range|invalid DB index/, 'it has no database of the number in REDIS_URL'],
  [/\bLOADING\b/, 'it is still loading its data'],
  [/\bMISCONF\b/, 'it cannot save to its disk, and takes no writes until it can'],
  [/\bCLUSTERDOWN\b/, 'the cluster is down: some of its slots have no node'],
  [/\bMOVED\b|CROSSSLOT/, 'it is a cluster: set REDIS_MODE=cluster'],
  [
    /cluster support disabled|Failed to refresh slots cache/,
    'no node answers as a cluster: check REDIS_URL, or set REDIS_MODE=standalone for a single server',
  ],
  [
    /unknown command.{0,3}sentinel|All sentinels are unreachable/i,
    'no sentinel answers: check the addresses in REDIS_URL and the name in REDIS_SENTINEL_NAME',
  ],
  [
    /SELF_SIGNED_CERT|UNABLE_TO_VERIFY|UNABLE_TO_GET_ISSUER|DEPTH_ZERO|self.signed certificate|unable to verify/,
    'its certificate is of an authority that is not known here: give the file of that authority in NODE_EXTRA_CA_CERTS',
  ],
  [/ERR_TLS_CERT_ALTNAME_INVALID|altnames/, 'its certificate is for another host than the one in REDIS_URL'],
  [/CERT_HAS_EXPIRED|certificate has expired/, 'its certificate has expired'],
  [
    /wrong version number|EPROTO|packet length too long/,
    'it speaks no TLS there: use redis:// in place of rediss://, or its TLS port',
  ],
  [
    /before secure TLS connection was established|connect ETIMEDOUT/,
    'no connection comes about: check the address, and whether it speaks TLS (rediss://) or not (redis://)',
  ],
  [/Protocol error, got/, 'what answers there is no Redis'],
  [/ENOTFOUND|EAI_AGAIN/, 'the name of its host is not found'],
  [/ECONNREFUSED/, 'nothing listens at its address: is it running?'],
];

/** Undefined for an error that this list does not know. No words of the server are in what is returned. */
export function redisTrouble(error: unknown): string | undefined {
  for (let at = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    const said = `${String((at as { code?: unknown }).code ?? '')} ${at.message}`.slice(0, 500);
    for (const [pattern, words] of TROUBLES) {
      const match = pattern.exec(said);
      if (match !== null) return typeof words === 'string' ? words : words(match);
    }
    const { lastNodeError } = at as { lastNodeError?: unknown };
    if (lastNodeError instanceof Error) return redisTrouble(lastNodeError) ?? undefined;
  }
  return undefined;
}
