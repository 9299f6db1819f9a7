import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { ADMIN_SECRET, PLATFORM_KEY, type System, startSystem, until } from '../support/system.ts';

const ENTRY = fileURLToPath(new URL('../../bin/infill.js', import.meta.url));
let system: System;

beforeAll(async () => {
  system = await startSystem({ workers: 1, targets: {} });
});
afterAll(() => system.close());
beforeEach(async () => {
  await system.sql`TRUNCATE notes`;
});

type Ended = { readonly status: number | null; readonly out: string; readonly error: string };

function begin(args: readonly string[], env: Record<string, string> = {}, input = '') {
  const child = spawn(process.execPath, [ENTRY, ...args], {
    env: { PATH: system.env['PATH'] ?? '', INFILL_URL: system.url, ADMIN_SECRET, ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let [out, error] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    error += chunk.toString();
  });
  child.stdin.end(input);
  const ended: Promise<Ended> = once(child, 'close').then(([status]) => ({ status, out, error }));
  return { child, ended, out: () => out, error: () => error };
}

const infill = (args: readonly string[], env: Record<string, string> = {}, input = ''): Promise<Ended> =>
  begin(args, env, input).ended;

async function json(args: readonly string[]) {
  const { out } = await infill([...args, '--json']);
  return JSON.parse(out);
}

const addNotes = (count: number, tenant = 'acme') =>
  system.addRows(Array.from({ length: count }, (_, n) => ({ tenant, text: `note ${tenant} ${n}` })));

describe('infill', () => {
  test('coverage and check show what is missing, and check ends with 3 until nothing is', async () => {
    await addNotes(3);

    expect((await infill(['coverage', '--target', 'notes'])).out).toMatch(/^notes +0 of 3 \(0%\) +3 /m);
    expect(await infill(['check', '--target', 'notes'])).toMatchObject({
      status: 3,
      out: expect.stringContaining('Not complete: notes has 3 missing.'),
    });
    expect((await infill(['check', '--target', 'notes', '--max-missing', '3'])).status).toBe(0);

    expect((await infill(['backfill', '--target', 'notes', '--wait'])).status).toBe(0);
    expect(await infill(['check', '--target', 'notes'])).toMatchObject({
      status: 0,
      out: expect.stringContaining('Complete.'),
    });
    expect((await json(['coverage', '--target', 'notes'])).items[0].coverage).toMatchObject({
      missing: 0,
      embedded: 3,
    });
  });

  test('require-complete waits for the end of a run, and no longer than it was told', async () => {
    await addNotes(2);
    const waiting = begin(['require-complete', '--target', 'notes', '--timeout', '60']);
    await system.backfill('?target=notes');

    expect((await waiting.ended).status).toBe(0);
    await addNotes(1);
    expect((await infill(['require-complete', '--target', 'notes', '--timeout', '0'])).status).toBe(3);
  });

  test('estimate says what a run would cost, and sends nothing', async () => {
    await addNotes(4);
    const before = system.openai.ledger.summary().billedInputs;

    const { status, out } = await infill(['estimate', '--target', 'notes']);

    expect(status).toBe(0);
    expect(out).toMatch(/^acme +4 /m);
    expect(out).toContain('Nothing was sent.');
    expect(system.openai.ledger.summary().billedInputs).toBe(before);
  });

  test('backfill --dry-run writes nothing, and --limit and --tenant bound a run', async () => {
    await addNotes(3);
    await addNotes(3, 'globex');

    expect((await infill(['backfill', '--target', 'notes', '--dry-run', '--wait'])).out).toContain(
      'Dry run: would backfill 6 embeddings.',
    );
    expect((await system.rows()).filter(({ embedding }) => embedding !== null)).toEqual([]);
    await infill([
      'backfill',
      '--target',
      'notes',
      '--tenant',
      'globex',
      '--limit',
      '2',
      '--batch-size',
      '1',
      '--wait',
    ]);

    const written = (await system.rows()).filter(({ embedding }) => embedding !== null);
    expect(written.map(({ tenant_id }) => tenant_id)).toEqual(['globex', 'globex']);
  });

  test('runs, run and the controls show and steer a run', async () => {
    await addNotes(2);
    const { runId } = await json(['backfill', '--target', 'notes']);
    await system.settled(runId);

    expect((await infill(['runs', '--limit', '1'])).out).toContain(runId);
    expect((await infill(['run', runId])).out).toMatch(/^acme +succeeded +2 +2 /m);
    expect((await infill(['cancel', runId])).error).toContain('succeeded');
    expect((await infill(['pause', runId])).status).toBe(1);
    expect((await infill(['run', 'no-such-run'])).status).toBe(2);
  });

  test('Ctrl-C while it waits leaves the run alone and says so', async () => {
    await addNotes(3);
    await infill(['switches', 'hold', 'global']);
    const waiting = begin(['backfill', '--target', 'notes', '--wait']);
    await until(async () => waiting.error() !== '', 'it follows the run');

    waiting.child.kill('SIGINT');

    const { status, out } = await waiting.ended;
    expect([status, out]).toEqual([3, expect.stringContaining('The run goes on without you.')]);
    await infill(['switches', 'release', 'global']);
    const [, runId = ''] = /infill run (\S+)/.exec(out) ?? [];
    expect((await system.settled(runId)).status).toBe('succeeded');
  });

  test('keys are read from standard input, shown by their end, checked and removed', async () => {
    const key = 'sk-planted-key-of-initech';
    system.openai.accounts.put({ key, organization: 'org-initech' });

    const set = await infill(['keys', 'set', 'initech'], {}, `${key}\n`);
    expect(set).toMatchObject({ status: 0, out: expect.stringContaining('tech') });
    expect((await infill(['keys', 'list'])).out).toMatch(/^initech +tech +valid/m);
    expect((await infill(['keys', 'check', 'initech'])).status).toBe(0);
    expect(
      `${set.out}${set.error}${(await infill(['keys', 'show', 'initech', '--json'])).out}`,
    ).not.toContain(key);
    expect((await infill(['keys', 'remove', 'initech'])).status).toBe(0);
    expect((await infill(['keys', 'show', 'initech'])).status).toBe(2);
    expect(await infill(['keys', 'set', 'initech'])).toMatchObject({
      status: 2,
      error: expect.stringContaining('standard input'),
    });
  });

  test('quarantine and switches are listed and let go', async () => {
    expect((await infill(['quarantine', 'list', '--target', 'notes'])).status).toBe(0);
    expect((await infill(['quarantine', 'release', '--target', 'notes', '--row', '1'])).out).toContain(
      '0 rows are released',
    );
    await infill(['switches', 'hold', 'tenant', 'acme', '--reason', 'planted reason']);
    expect((await infill(['switches', 'list'])).out).toMatch(/^tenant +acme .*planted reason/m);
    expect((await infill(['switches', 'release', 'tenant', 'acme'])).out).toContain('Nothing is held.');
  });

  test('usage shows what was spent, and rekey says that nothing is left to do', async () => {
    await addNotes(2, 'hooli');
    await infill(['backfill', '--target', 'notes', '--wait']);

    const { status, out } = await infill(['usage', '--tenant', 'hooli']);
    expect([status, out]).toEqual([0, expect.stringMatching(/^hooli +notes +\d/m)]);
    expect(out).toMatch(/^In \d{4}-\d\d: \d+ tokens, \$/m);
    expect((await infill(['usage', '--month', 'march'])).status).toBe(2);
    expect((await infill(['rekey'])).status).toBe(0);
  });

  test('doctor finds nothing to fail in a set-up that works', async () => {
    const { status, out } = await infill(['doctor']);

    expect(out).not.toMatch(/^FAIL/m);
    expect(status).toBe(0);
    expect(out).toMatch(/^ok +postgres: PostgreSQL 1/m);
    expect(out).toMatch(/^ok +redis: Redis answers and takes writes; all keys begin with \{infill\}/m);
  });

  test.each<[string, string[], Record<string, string>, number, string]>([
    ['no command that it knows', ['bakfill'], {}, 2, "unknown command 'bakfill'"],
    ['no option that it knows', ['runs', '--lmit', '3'], {}, 2, "unknown option '--lmit'"],
    ['a number that is none', ['runs', '--limit', 'many'], {}, 2, 'expected a whole number'],
    ['a target that is not there', ['coverage', '--target', 'noets'], {}, 2, 'there are: notes'],
    [
      'a wrong secret',
      ['runs'],
      { ADMIN_SECRET: 'planted wrong secret of the test' },
      1,
      'refuses the secret: check ADMIN_SECRET',
    ],
    ['no secret', ['runs'], { ADMIN_SECRET: '' }, 2, 'ADMIN_SECRET is not set'],
    [
      'an API that is not there',
      ['runs'],
      { INFILL_URL: 'http://127.0.0.1:59999' },
      1,
      'cannot be reached (ECONNREFUSED)',
    ],
    [
      'an address that is none',
      ['runs'],
      { INFILL_URL: 'planted' },
      2,
      'INFILL_URL is no address of the API',
    ],
  ])('with %s says so in a sentence', async (_what, args, env, status, words) => {
    const ended = await infill(args, env);

    expect(ended).toMatchObject({ status, error: expect.stringContaining(words) });
    expect(`${ended.out}${ended.error}`).not.toMatch(/^\s+at |planted wrong/m);
    expect(`${ended.out}${ended.error}`).not.toContain(PLATFORM_KEY);
  });
});
