import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createLog, describeError, scrub } from '../../src/log.ts';

function setup(secrets: string[] = []) {
  const lines: string[] = [];
  const log = createLog({
    level: 'info',
    name: 'test',
    secrets,
    destination: { write: (line) => void lines.push(line) },
  });
  return {
    log,
    text: () => lines.join(''),
    last: () => JSON.parse(lines.at(-1) ?? '{}') as Record<string, unknown>,
  };
}

/** As Drizzle throws it: statement and parameters in the message, and once more as fields. */
function queryError(params: unknown[], cause: unknown): Error {
  const query = 'update "notes" set "embedding" = $1';
  return Object.assign(new Error(`Failed query: ${query}\nparams: ${params}`, { cause }), { query, params });
}

describe('a line of the log', () => {
  test('names an event, its level in words and its time in ISO 8601', () => {
    const { log, last } = setup();

    log.child({ runId: 'r1' }).info({ rows: 3 }, 'batch_done');

    expect(last()).toMatchObject({ level: 'info', name: 'test', runId: 'r1', rows: 3, msg: 'batch_done' });
    expect(last().time).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  });

  test('hides fields that are secret by their name, at the top and in headers', () => {
    const { log, text } = setup();

    log.info({ apiKey: 'planted-1', credential: { apiKey: 'planted-2' } }, 'a');
    log.info(
      { headers: { 'x-admin-secret': 'planted-3', authorization: 'planted-4', cookie: 'planted-5' } },
      'b',
    );
    log.info({ req: { headers: { 'x-admin-secret': 'planted-6', 'set-cookie': 'planted-7' } } }, 'c');

    expect(text()).not.toContain('planted');
  });

  test('hides what looks like a key or a password wherever it stands', () => {
    const { log, text } = setup();

    log.info({ note: 'key sk-proj-planted123', url: 'postgres://user:planted@host/db' }, 'a');
    log.child({ url: 'redis://:planted@host:6379' }).warn('Authorization: Bearer planted');
    log.error({ err: new Error('Incorrect API key provided: planted-key. See the docs.') }, 'b');

    expect(text()).not.toContain('planted');
    expect(text()).toContain('@host/db');
  });

  test('hides the values it was told, also where JSON writes them differently', () => {
    const { log, text } = setup(['planted"with\\quotes', 'short']);

    log.info({ note: 'it is planted"with\\quotes here, short stays' }, 'a');

    expect(text()).not.toContain('planted');
    expect(text()).toContain('short stays');
  });
});

describe('an error in the log', () => {
  test('is a failed query without its parameters, with its cause', () => {
    const { log, text, last } = setup();
    const cause = Object.assign(new Error('relation "notes" does not exist'), {
      code: '42P01',
      detail: 'Failing row contains (planted text).',
      parameters: ['planted text'],
    });

    log.error({ err: queryError(['planted text', [0.125, 0.25]], cause) }, 'write_failed');

    expect(text()).not.toContain('planted');
    expect(text()).not.toContain('0.125');
    expect(last().err).toMatchObject({
      message: 'Failed query: update "notes" set "embedding" = $1',
      cause: { code: '42P01', message: 'relation "notes" does not exist' },
    });
  });

  test('keeps where it was thrown', () => {
    expect(describeError(new Error('here')).stack).toContain('log.test.ts');
  });

  test('may be anything, and may be its own cause', () => {
    const circular = new Error('round');
    circular.cause = circular;

    expect(describeError('text')).toEqual({ type: 'string', message: 'text' });
    expect(describeError(undefined)).toEqual({ type: 'undefined', message: 'undefined' });
    expect(JSON.stringify(describeError(circular)).match(/round/g)?.length).toBe(6);
  });
});

describe('scrub', () => {
  test('invariant: JSON stays JSON, and a second time changes nothing', () => {
    const nasty = fc.oneof(
      fc.string(),
      fc.constantFrom('sk-abcdefgh', 'a://b:c@d', 'Bearer x"y', 'API key provided: \\"', '://@'),
    );
    fc.assert(
      fc.property(fc.array(nasty), (texts) => {
        const once = scrub(JSON.stringify({ text: texts.join('') }));
        expect(() => JSON.parse(once)).not.toThrow();
        expect(scrub(once)).toBe(once);
      }),
    );
  });

  test('leaves words alone that only resemble a key', () => {
    const text = 'task-1234567, risk-assessment, a mail to me@example.com, https://host/path';
    expect(scrub(text)).toBe(text);
  });
});
