import { describe, expect, test } from 'vitest';
import { type PostgresAddress, parsePostgresAddress } from '../../src/core/postgres-address.ts';

const PLAIN: PostgresAddress = {
  hosts: [{ host: 'db', port: 5_432 }],
  socketPath: undefined,
  user: 'u',
  password: 'p',
  database: 'app',
  ssl: { mode: 'disable', rootCertificate: undefined, certificate: undefined, key: undefined },
  applicationName: undefined,
  connectSeconds: undefined,
  options: undefined,
  isPooler: false,
};

const socket = { hosts: undefined, socketPath: '/run/pg/.s.PGSQL.5432' };
const tls = (mode: PostgresAddress['ssl']['mode'], files = {}) => ({ ssl: { ...PLAIN.ssl, mode, ...files } });

describe('an address of Postgres', () => {
  test.each<[string, Partial<PostgresAddress>]>([
    ['postgres://u:p@db/app', {}],
    ['postgresql://u:p@db:6000/app', { hosts: [{ host: 'db', port: 6_000 }] }],
    ['postgres://u:p%2F%40@db/my%20app', { password: 'p/@', database: 'my app' }],
    ['postgres://u:a:b@db/app', { password: 'a:b' }],
    ['postgres://u:p@[::1]:6000/app', { hosts: [{ host: '::1', port: 6_000 }] }],
    ['postgres:///app', { hosts: undefined, user: undefined, password: undefined }],
    ['postgres://u:p@/app?host=/run/pg', socket],
    ['postgres://u:p@elsewhere/app?host=/run/pg/', socket],
    ['postgres://u:p@%2Frun%2Fpg/app', socket],
    ['postgres://u:p@/app?host=/run/pg&port=6000', { ...socket, socketPath: '/run/pg/.s.PGSQL.6000' }],
    ['postgres://elsewhere/other?host=db&user=u&password=p&dbname=app', {}],
    ['postgres://u:p@db/app?application_name=a+b', { applicationName: 'a+b' }],
    ['postgres://u:p@db/app?connect_timeout=10', { connectSeconds: 10 }],
    ['postgres://u:p@db/app?options=-c%20search_path%3Dx', { options: '-c search_path=x' }],
    ['postgres://u:p@db/app?sslmode=prefer', tls('prefer')],
    ['postgres://u:p@db/app?sslmode=verify-ca', tls('verify-ca')],
    ['postgres://u:p@db/app?ssl=true', tls('require')],
    ['postgres://u:p@db/app?ssl=false', {}],
    ['postgres://u:p@db/app?sslaccept=strict', tls('verify-full')],
    ['postgres://u:p@db/app?sslaccept=accept_invalid_certs', tls('require')],
    ['postgres://u:p@db/app?sslrootcert=system', tls('verify-full', { rootCertificate: 'system' })],
    [
      'postgres://u:p@db/app?sslmode=verify-full&sslrootcert=/ca.pem&sslcert=/c.pem&sslkey=/k.pem',
      tls('verify-full', { rootCertificate: '/ca.pem', certificate: '/c.pem', key: '/k.pem' }),
    ],
    ['postgres://u:p@db/app?pgbouncer=true', { isPooler: true }],
    ['postgres://u:p@db/app?target_session_attrs=read-write', {}],
    [
      'postgres://u:p@one,two:6000/app',
      {
        hosts: [
          { host: 'one', port: 5_432 },
          { host: 'two', port: 6_000 },
        ],
      },
    ],
    [
      'postgres://u:p@ep-cool-1-pooler.eu-central-1.aws.neon.tech/app',
      { hosts: [{ host: 'ep-cool-1-pooler.eu-central-1.aws.neon.tech', port: 5_432 }], isPooler: true },
    ],
    [
      'postgres://u:p@aws-0-eu-central-1.pooler.supabase.com:6543/app',
      { hosts: [{ host: 'aws-0-eu-central-1.pooler.supabase.com', port: 6_543 }], isPooler: true },
    ],
    ['postgres://u:p@db/app?channel_binding=require&schema=public&connection_limit=5&pool_timeout=3', {}],
  ])('is read as it is meant: %s', (text, expected) => {
    expect(parsePostgresAddress(text)).toEqual({ ...PLAIN, ...expected });
  });

  test.each([
    ['sslmode=planted', 'expected sslmode to be one of disable, allow'],
    ['ssl=planted', 'expected sslmode to be one of disable, allow'],
    ['sslaccept=planted', 'expected sslaccept to be strict'],
    ['sslcert=/planted', 'expected both sslcert and sslkey'],
    ['sslmode=require&sslrootcert=system', 'expected sslmode=verify-full with sslrootcert=system'],
    ['connect_timeout=planted', 'expected connect_timeout to be a whole number of seconds from 1 to 60'],
    ['connect_timeout=0', 'expected connect_timeout to be a whole number of seconds from 1 to 60'],
    ['statement_timeout=5', 'the parameter "statement_timeout" is not known'],
    ['Planted%20word=1', 'a parameter of the URL is not known'],
    ['target_session_attrs=standby', 'expected target_session_attrs to be read-write or primary'],
    ['host=/run/a,b', 'expected one socket directory, or hosts, but not both'],
  ])('is refused with what would be right, and without its values: %s', (query, message) => {
    const read = () => parsePostgresAddress(`postgres://u:planted@db/app?${query}`);

    expect(read).toThrow(message);
    expect(read).not.toThrow(/planted/i);
  });
});
