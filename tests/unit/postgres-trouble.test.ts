import { expect, test } from 'vitest';
import { postgresTrouble } from '../../src/core/postgres-trouble.ts';

const failed = (message: string, code?: string) => Object.assign(new Error(message), { code });

test.each([
  [failed('password authentication failed for user "u"', '28P01'), 'it refuses the password'],
  [
    failed('no pg_hba.conf entry for host "10.0.0.1", user "u", database "d", no encryption', '28000'),
    'without TLS: add sslmode=require',
  ],
  [failed('database "planted" does not exist', '3D000'), 'there is no database of the name'],
  [failed('no such database: planted', '08P01'), 'there is no database of the name'],
  [failed('unsupported startup parameter: lock_timeout', '08P01'), 'DATABASE_POOLER=transaction'],
  [failed('connect ECONNREFUSED 10.0.0.1:5432', 'ECONNREFUSED'), 'nothing listens at the host and port'],
  [failed('getaddrinfo ENOTFOUND planted', 'ENOTFOUND'), 'the name of its host'],
  [failed('sorry, too many clients already', '53300'), 'it has no connection left'],
  [failed('cannot execute INSERT in a read-only transaction', '25006'), 'it is a standby'],
  [failed('The server does not support SSL connections'), 'it speaks no TLS'],
  [failed('self-signed certificate', 'DEPTH_ZERO_SELF_SIGNED_CERT'), 'sslrootcert in DATABASE_URL'],
  [failed('Tenant or user not found', 'XX000'), 'Supabase wants user.project'],
])('%s is told as what to change', (error, words) => {
  const told = postgresTrouble(new Error('outer', { cause: error }));

  expect(told).toContain(words);
  expect(told).not.toMatch(/planted|10\.0\.0\.1/);
});

test('the failures of several addresses of one host are looked at one by one', () => {
  const error = new AggregateError([failed('connect ECONNREFUSED ::1:5432', 'ECONNREFUSED')]);
  expect(postgresTrouble(error)).toContain('nothing listens');
});

test('the words of a failed query are not looked at, since they hold what was sent', () => {
  const error = Object.assign(new Error('Failed query: ... ECONNREFUSED'), { params: [] });
  expect(postgresTrouble(error)).toBeUndefined();
});
