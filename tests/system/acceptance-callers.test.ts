import { execFile } from 'node:child_process';
import { request } from 'node:http';
import { promisify } from 'node:util';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { ADMIN_SECRET, type System, startSystem, wrongRows } from '../support/system.ts';

const exec = promisify(execFile);
const [hasWget, hasCurl] = await Promise.all(['wget', 'curl'].map(isInstalled));

let system: System;

beforeAll(async () => {
  system = await startSystem();
});
afterAll(() => system.close());
beforeEach(async () => {
  await system.sql`TRUNCATE notes`;
  await system.addRows(Array.from({ length: 30 }, (_, index) => ({ tenant: 'acme', text: `note ${index}` })));
});

const path = '/api/v1/admin/backfill-embeddings';
/** By the address that containers are told to use. */
const addressOf = (query: string) => `http://0.0.0.0:${system.env.PORT}${path}${query}`;
const secretHeader = `x-admin-secret: ${ADMIN_SECRET}`;
const done = 'Successfully backfilled 30 embeddings.';

describe('a run is started', () => {
  test.runIf(hasWget)('by the wget of a container, which waits and prints the message', async () => {
    const { stdout } = await exec('wget', [
      '-qO-',
      '--post-data',
      '',
      '--header',
      secretHeader,
      addressOf('?wait=60'),
    ]);

    expect(JSON.parse(stdout)).toMatchObject({ status: 'succeeded', message: done });
    expect(wrongRows(await system.rows())).toEqual([]);
  });

  test.runIf(hasWget)('by no wget without the secret', async () => {
    const refused = await exec('wget', ['-qO-', '--post-data', '', addressOf('')]).catch(
      (error: unknown) => error,
    );

    expect(refused).toMatchObject({ code: 6 });
    expect((await system.call('GET', path)).body.items).toHaveLength(await countRuns());
  });

  test.runIf(hasCurl)('by curl -X POST, without a body', async () => {
    const { stdout } = await exec('curl', ['-sS', '-X', 'POST', '-H', secretHeader, addressOf('?wait=60')]);

    expect(JSON.parse(stdout)).toMatchObject({ status: 'succeeded', message: done });
  });

  // What wget, curl and clients of all kinds send, byte for byte: also where none of them is installed.
  test.each([
    ['a form, as wget says of its empty body', { 'content-type': 'application/x-www-form-urlencoded' }, ''],
    ['JSON that is empty', { 'content-type': 'application/json' }, ''],
    ['an empty JSON object', { 'content-type': 'application/json; charset=utf-8' }, '{}'],
    ['a type that nobody knows', { 'content-type': 'application/octet-stream' }, ''],
    ['nothing at all', {}, null],
  ])('by a body that is %s', async (_name, headers, body) => {
    const answer = await postRaw('?wait=60', headers, body);

    expect(answer).toMatchObject({ status: 200, body: { status: 'succeeded', message: done } });
  });

  test.each([
    ['a form', 'application/x-www-form-urlencoded', 'dryRun=true'],
    ['JSON', 'application/json', '{"dryRun":true}'],
  ])('by no body that would be ignored: parameters as %s', async (_name, type, body) => {
    const before = await countRuns();

    const answer = await postRaw('', { 'content-type': type }, body);

    expect(answer).toMatchObject({ status: 400, body: { type: '/docs/problems#unexpected_body' } });
    expect(await countRuns()).toBe(before);
  });
});

describe('wait', () => {
  test('answers 202 with the run as it stands when the time is over', async () => {
    const held = system.openai.faults.add({ action: { kind: 'delay', delayMs: 3_000 } });

    const answer = await postRaw('?wait=1', {}, null);

    expect(answer).toMatchObject({ status: 202, body: { status: 'running', progress: 0 } });
    system.openai.faults.clear(held);
    await system.settled(answer.body.runId);
  });

  test('of 0 seconds answers at once', async () => {
    const answer = await postRaw('?wait=0', {}, null);

    expect(answer.status).toBe(202);
    await system.settled(answer.body.runId);
  });
});

describe('a dry run', () => {
  test('calls the provider for every row, lists what it would write, and changes no row', async () => {
    system.openai.ledger.reset();
    const before = await system.sql`SELECT xmin::text, notes.* FROM notes ORDER BY id`;

    const { status, body } = await postRaw('?dryRun=true&wait=60&batchSize=7', {}, null);

    expect({ status, body }).toMatchObject({
      status: 200,
      body: { dryRun: true, status: 'succeeded', message: 'Dry run: would backfill 30 embeddings.' },
    });
    expect(body.rows).toMatchObject({ planned: 30, embedded: 30, remaining: 30 });
    expect(body.tokens).toBeGreaterThan(0);
    expect(system.openai.ledger.summary()).toMatchObject({ billedInputs: 30, billedDistinct: 30 });
    expect(await system.sql`SELECT xmin::text, notes.* FROM notes ORDER BY id`).toEqual(before);
    const listed = await system.listed(body.runId, 'rows', 8);
    expect(listed.map(({ rowId }) => rowId)).toEqual(before.map(({ id }) => id));
    expect(new Set(listed.map(({ outcome }) => outcome))).toEqual(new Set(['would_embed']));
  });

  test('changes nothing that a real run after it goes by', async () => {
    system.openai.setPoison([{ marker: 'note 7' }]);
    const dry = await system.backfill('?dryRun=true');
    expect(dry).toMatchObject({ status: 'incomplete', rows: { embedded: 29, quarantined: 1 } });
    expect(await system.sql`SELECT * FROM infill.quarantined_rows`).toEqual([]);
    system.openai.setPoison([]);

    const real = await system.backfill();

    expect(real).toMatchObject({ status: 'succeeded', rows: { planned: 30, embedded: 30 } });
    expect(wrongRows(await system.rows())).toEqual([]);
  });
});

async function postRaw(query: string, headers: Record<string, string>, body: string | null) {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; text: string }>();
  const length = body === null ? {} : { 'content-length': String(Buffer.byteLength(body)) };
  const sent = request(addressOf(query), {
    method: 'POST',
    headers: { 'x-admin-secret': ADMIN_SECRET, ...length, ...headers },
  });
  sent.once('error', reject);
  sent.once('response', async (response) => {
    let text = '';
    for await (const chunk of response) text += chunk;
    resolve({ status: response.statusCode ?? 0, text });
  });
  sent.end(body ?? undefined);
  const { status, text } = await promise;
  return { status, body: JSON.parse(text) };
}

async function countRuns(): Promise<number> {
  const [row] = await system.sql<{ count: number }[]>`SELECT count(*)::int AS count FROM infill.runs`;
  return row?.count ?? -1;
}

async function isInstalled(command: string): Promise<boolean> {
  return exec(command, ['--version']).then(
    () => true,
    () => false,
  );
}
