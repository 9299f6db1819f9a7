import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TLSSocket } from 'node:tls';
import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openDatabase } from '../../src/db/client.ts';
import { makeCertificates } from '../support/certificates.ts';
import { createTestDatabase, type TestService } from '../support/services.ts';

let service: TestService;
let folder: string;
let tlsServer: { server: Server; port: number; names: (string | false | null)[] };

beforeAll(async () => {
  service = await createTestDatabase();
  folder = mkdtempSync(join(tmpdir(), 'infill-tls-'));
  makeCertificates(folder);
  tlsServer = await startTlsServer();
});
afterAll(async () => {
  tlsServer.server.close();
  rmSync(folder, { recursive: true });
  await service.close();
});

test.each(['prefer', 'require', 'verify-ca', 'verify-full'])(
  '%s sends the name of the host',
  async (mode) => {
    tlsServer.names.length = 0;

    expect(await answerOf('localhost', `sslmode=${mode}&sslrootcert=${folder}/ca.pem`)).toBe('answered');
    expect(new Set(tlsServer.names)).toEqual(new Set(['localhost']));
  },
);

test('verify-full refuses the certificate of another host, verify-ca and require take it', async () => {
  const root = `sslrootcert=${folder}/ca.pem`;

  expect(await answerOf('127.0.0.1', `sslmode=verify-full&${root}`)).toBe('ERR_TLS_CERT_ALTNAME_INVALID');
  expect(await answerOf('127.0.0.1', `sslmode=verify-ca&${root}`)).toBe('answered');
  expect(await answerOf('127.0.0.1', 'sslmode=require')).toBe('answered');
});

test.each(['verify-ca', 'verify-full', 'require'])(
  '%s refuses a certificate that the given root did not sign',
  async (mode) => {
    expect(await answerOf('localhost', `sslmode=${mode}&sslrootcert=${folder}/other-ca.pem`)).toMatch(
      /SELF_SIGNED|UNABLE_TO|CERT_SIGNATURE/,
    );
  },
);

test('a root certificate that cannot be read is named when the database is opened', () => {
  const open = () =>
    openDatabase('postgres://u@localhost/app?sslmode=verify-full&sslrootcert=/absent.pem', {
      connectionsMax: 1,
      applicationName: 'test',
    });

  expect(open).toThrow('cannot read the file that sslrootcert names (ENOENT)');
});

/** `answered`, or the code of what went wrong. */
async function answerOf(host: string, query: string): Promise<string> {
  const { username, password, pathname } = new URL(service.url);
  const login = password === '' ? username : `${username}:${password}`;
  const url = `postgres://${login}@${host}:${tlsServer.port}${pathname}?${query}`;
  const database = openDatabase(url, { connectionsMax: 1, applicationName: 'test' });
  try {
    await database.db.execute(sql`SELECT 1`);
    return 'answered';
  } catch (error) {
    const { cause } = error as { cause?: { code?: string } };
    return cause?.code ?? String(cause);
  } finally {
    await database.close();
  }
}

/** Speaks TLS as Postgres does, with a certificate for `localhost`, in front of the test's own server. */
async function startTlsServer(): Promise<typeof tlsServer> {
  const names: (string | false | null)[] = [];
  const { hostname, port } = new URL(service.url);
  const certificate = { key: read('server.key'), cert: read('server.pem') };
  const server = createServer((client) => {
    client.on('error', () => client.destroy());
    client.once('data', () => {
      client.write('S');
      const secure = new TLSSocket(client, { isServer: true, ...certificate });
      secure.on('secure', () =>
        names.push((secure as TLSSocket & { servername: string | false }).servername),
      );
      pass(secure, connect(Number(port), hostname));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, resolve));
  return { server, port: (server.address() as { port: number }).port, names };
}

function pass(client: Socket, upstream: Socket): void {
  client.on('error', () => upstream.destroy()).on('close', () => upstream.destroy());
  upstream.on('error', () => client.destroy()).on('close', () => client.destroy());
  client.pipe(upstream).pipe(client);
}

function read(name: string): Buffer {
  return readFileSync(join(folder, name));
}
