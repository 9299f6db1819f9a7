/** Reads `DATABASE_URL` into checked connection settings: the one place that knows what the parts of an address mean. */

const SSL_MODES = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'] as const;
export type SslMode = (typeof SSL_MODES)[number];

export type PostgresAddress = {
  /** Undefined: as `PGHOST` says, else localhost. In the order of the address. */
  readonly hosts: readonly { readonly host: string; readonly port: number }[] | undefined;
  /** Path of the Unix socket, in place of hosts. */
  readonly socketPath: string | undefined;
  readonly user: string | undefined;
  readonly password: string | undefined;
  readonly database: string | undefined;
  readonly ssl: {
    readonly mode: SslMode;
    /** A file, or `system` for the certificate authorities that Node trusts. */
    readonly rootCertificate: string | undefined;
    readonly certificate: string | undefined;
    readonly key: string | undefined;
  };
  readonly applicationName: string | undefined;
  readonly connectSeconds: number | undefined;
  /** Whether the address itself tells that a pooler is there that gives each transaction another connection. */
  readonly isPooler: boolean;
  /** Command line options for the server, such as `-c search_path=app`. */
  readonly options: string | undefined;
};

/** Parameters of other clients and of libpq that change nothing here. Everything unknown is refused. */
const LEFT_OUT: ReadonlySet<string> = new Set([
  'channel_binding',
  'connection_limit',
  'pool_timeout',
  'schema',
  'socket_timeout',
  'statement_cache_size',
  'keepalives',
  'keepalives_idle',
  'keepalives_interval',
  'keepalives_count',
  'tcp_user_timeout',
  'gssencmode',
  'uselibpqcompat',
]);

const UNDERSTOOD: ReadonlySet<string> = new Set([
  'host',
  'port',
  'user',
  'password',
  'dbname',
  'sslmode',
  'ssl',
  'sslaccept',
  'sslrootcert',
  'sslcert',
  'sslkey',
  'application_name',
  'connect_timeout',
  'options',
  'pgbouncer',
  'target_session_attrs',
]);

const PORT_DEFAULT = 5_432;
const CONNECT_SECONDS_LIMIT = 60;

/** Says what is wrong with an address and what would be right, without any value of it. */
export class PostgresAddressError extends Error {}

/** @throws {PostgresAddressError} */
export function parsePostgresAddress(text: string): PostgresAddress {
  const match = /^postgres(?:ql)?:\/\/([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/.exec(text);
  if (match === null) throw unreadable();
  const [, authority = '', path = '', query = ''] = match;
  const given = parametersOf(query);
  const at = authority.lastIndexOf('@');
  const [user = '', ...password] = at < 0 ? [] : authority.slice(0, at).split(':');
  const hosts = hostsOf(given.get('host') ?? decoded(authority.slice(at + 1)), given.get('port'));
  const socket = hosts.find(({ host }) => host.startsWith('/'));
  if (socket !== undefined && hosts.length > 1) {
    throw new PostgresAddressError('expected one socket directory, or hosts, but not both');
  }
  refuseReadOnly(given.get('target_session_attrs'));
  return {
    hosts: socket === undefined && hosts.length > 0 ? hosts : undefined,
    socketPath: socket && `${socket.host.replace(/\/$/, '')}/.s.PGSQL.${socket.port}`,
    user: given.get('user') ?? (decoded(user) || undefined),
    password: given.get('password') ?? (decoded(password.join(':')) || undefined),
    database: given.get('dbname') ?? (decoded(path) || undefined),
    ssl: sslOf(given),
    applicationName: given.get('application_name'),
    connectSeconds: connectSecondsOf(given.get('connect_timeout')),
    options: given.get('options'),
    isPooler: saysPooler(given, hosts),
  };
}

function unreadable(): PostgresAddressError {
  return new PostgresAddressError('expected a URL such as postgres://user:password@host:5432/database');
}

/** An empty parameter counts as not given, as in libpq. */
function parametersOf(query: string): Map<string, string> {
  const given = new Map<string, string>();
  for (const [name, value] of query.split('&').map((pair) => pair.split(/=(.*)/s))) {
    if (name === undefined || name === '') continue;
    // libpq takes a plus sign for itself, not for a blank.
    const key = decoded(name);
    if (LEFT_OUT.has(key)) continue;
    if (!UNDERSTOOD.has(key)) throw refusal(key);
    if (value !== undefined && value !== '') given.set(key, decoded(value));
  }
  return given;
}

function refusal(name: string): PostgresAddressError {
  // The name may be anything, part of a password with an unescaped "?" included.
  const shown = /^[a-z_]{1,40}$/.test(name) ? `the parameter "${name}"` : 'a parameter of the URL';
  return new PostgresAddressError(
    `${shown} is not known: remove it, or give a setting of the server as options=-c%20name%3Dvalue`,
  );
}

/** Prisma's parameter; Neon's names of its pooler; the port at which Supabase pools transactions. */
function saysPooler(given: Map<string, string>, hosts: readonly { host: string; port: number }[]): boolean {
  const [first] = hosts;
  if (given.get('pgbouncer') === 'true') return true;
  if (first === undefined) return false;
  const isNeon = /^[a-z0-9-]+-pooler\..*\bneon\.tech$/i.test(first.host);
  return isNeon || (first.port === 6_543 && /\.supabase\.(com|co)$/i.test(first.host));
}

/** Among several hosts the one that takes writes is looked for anyway; one that takes none is of no use. */
function refuseReadOnly(wanted: string | undefined): void {
  if (wanted === undefined || ['any', 'read-write', 'primary', 'prefer-primary'].includes(wanted)) return;
  throw new PostgresAddressError('expected target_session_attrs to be read-write or primary: Infill writes');
}

function hostsOf(list: string, portList: string | undefined): { host: string; port: number }[] {
  if (list === '') {
    return portList === undefined ? [] : [{ host: 'localhost', port: portOf(portList) }];
  }
  const ports = portList?.split(',') ?? [];
  return list.split(',').map((item, index) => {
    if (item.startsWith('/')) return { host: item, port: portOf(ports[index] ?? ports[0]) };
    const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:[\]\s@]+))(?::(\d+))?$/.exec(item) ?? [];
    const host = bracketed ?? plain;
    if (host === undefined) throw unreadable();
    return { host, port: portOf(port ?? ports[index] ?? ports[0]) };
  });
}

function portOf(text: string | undefined): number {
  if (text === undefined || text === '') return PORT_DEFAULT;
  const port = Number(text);
  if (!/^\d+$/.test(text) || port < 1 || port > 65_535) throw unreadable();
  return port;
}

function sslOf(given: Map<string, string>): PostgresAddress['ssl'] {
  const rootCertificate = given.get('sslrootcert');
  const certificate = given.get('sslcert');
  const key = given.get('sslkey');
  if ((certificate === undefined) !== (key === undefined)) {
    throw new PostgresAddressError('expected both sslcert and sslkey, or neither');
  }
  const mode = sslModeOf(given);
  if (rootCertificate === 'system' && mode !== undefined && mode !== 'verify-full') {
    throw new PostgresAddressError('expected sslmode=verify-full with sslrootcert=system');
  }
  const byDefault = rootCertificate === 'system' ? 'verify-full' : 'disable';
  return { mode: mode ?? byDefault, rootCertificate, certificate, key };
}

function sslModeOf(given: Map<string, string>): SslMode | undefined {
  const mode = given.get('sslmode');
  if (mode !== undefined) {
    if ((SSL_MODES as readonly string[]).includes(mode)) return mode as SslMode;
    throw new PostgresAddressError(`expected sslmode to be one of ${SSL_MODES.join(', ')}`);
  }
  const accept = given.get('sslaccept');
  if (accept === 'strict') return 'verify-full';
  if (accept === 'accept_invalid_certs') return 'require';
  if (accept !== undefined)
    throw new PostgresAddressError('expected sslaccept to be strict or accept_invalid_certs');
  const ssl = given.get('ssl');
  if (ssl === undefined) return undefined;
  if (ssl === 'true') return 'require';
  if (ssl === 'false') return 'disable';
  // postgres.js takes the modes under this name, too.
  return sslModeOf(new Map([['sslmode', ssl]]));
}

function connectSecondsOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const seconds = Number(text);
  if (Number.isInteger(seconds) && seconds >= 1 && seconds <= CONNECT_SECONDS_LIMIT) return seconds;
  throw new PostgresAddressError(
    `expected connect_timeout to be a whole number of seconds from 1 to ${CONNECT_SECONDS_LIMIT}`,
  );
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw unreadable();
  }
}
