import { connect, createServer, type Socket } from 'node:net';
import { sql } from 'drizzle-orm';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Database, openDatabase } from '../../src/db/client.ts';
import { createTestDatabase, type TestService } from '../support/services.ts';

let service: TestService;
let database: Database;

beforeAll(async () => {
  service = await createTestDatabase();
  database = openDatabase(service.url, { connectionsMax: 2, applicationName: 'test' });
});
afterAll(async () => {
  await database.close();
  await service.close();
});

// Postgres knows no text with the character 0, nor half of a surrogate pair.
const anyText = fc.string({ unit: 'binary' }).map((text) => text.replaceAll('\0', '').toWellFormed());

test('arrays of text arrive as they were sent, whatever they hold', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.option(anyText)), async (items) => {
      const [row] = await database.db.execute<{ back: unknown; joined: number }>(
        sql`SELECT ${sql.param(items)}::text[] AS back, cardinality(${sql.param(items)}::text[]) AS joined`,
      );
      expect(row).toEqual({ back: items, joined: items.length });
    }),
    { numRuns: 60 },
  );
});

test.each([['NULL'], [''], ['a,b'], ['{}'], ['"'], ['\\'], ['\\"'], [' '], ['\n']])(
  '%j is a text like any other',
  async (text) => {
    const [row] = await database.db.execute(sql`SELECT ${sql.param([text, null, text])}::text[] AS back`);

    expect(row).toEqual({ back: [text, null, text] });
  },
);

test('arrays of numbers and of nothing arrive', async () => {
  const numbers = sql`${sql.param([1, null, Number.MAX_SAFE_INTEGER])}::bigint[]`;
  const [row] = await database.db.execute(
    sql`SELECT ARRAY(SELECT unnest(${numbers})::text) AS numbers, ${sql.param([])}::text[] AS none, ${sql.param(null)}::text[] AS missing`,
  );

  expect(row).toEqual({ numbers: ['1', null, '9007199254740991'], none: [], missing: null });
});

// vitest fails the file on an unhandled rejection, as Node would end the process.
test('a connection that breaks at any point of its opening fails the statement, and nothing else', async () => {
  for (let bytes = 1; bytes < 1_500; bytes += 100) {
    const flaky = await startBreakingProxy(service.url, bytes);
    const through = openDatabase(flaky.url, { connectionsMax: 1, applicationName: 'test' });

    // What breaks after the last byte breaks nothing.
    const outcome = await through.db.execute(sql`SELECT 1`).then(
      () => 'answered',
      ({ cause }: { cause?: { code?: string } }) => cause?.code ?? String(cause),
    );
    expect(outcome, `after ${bytes} bytes`).toMatch(/^(answered|CONNECTION_CLOSED|ECONNREFUSED|ECONNRESET)$/);
    await through.close();
  }
});

/** Passes on the first connection's answers up to so many bytes, then breaks it and refuses all others. */
async function startBreakingProxy(serviceUrl: string, bytesMax: number): Promise<{ url: string }> {
  const { hostname, port } = new URL(serviceUrl);
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname);
    let passed = 0;
    const end = (socket: Socket) => () => socket.destroy();
    client.on('error', end(upstream)).on('close', end(upstream)).pipe(upstream);
    upstream
      .on('error', end(client))
      .on('close', end(client))
      .on('data', (chunk: Buffer) => {
        client.write(chunk.subarray(0, Math.max(0, bytesMax - passed)));
        passed += chunk.length;
        if (passed < bytesMax) return;
        server.close();
        client.end(() => client.destroy());
      });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = new URL(serviceUrl);
  url.port = String((server.address() as { port: number }).port);
  url.hostname = '127.0.0.1';
  return { url: url.href };
}
