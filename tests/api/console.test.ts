import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ADMIN_SECRET, type System, startSystem } from '../support/system.ts';

const VIEWER_SECRET = 'planted-viewer-secret-0815';
const ROW_TEXT = 'planted text of a row';
let system: System;
let [admin, viewer] = ['', ''];

beforeAll(async () => {
  system = await startSystem({ workers: 1, env: { VIEWER_SECRET } });
  [admin, viewer] = [await logIn(ADMIN_SECRET), await logIn(VIEWER_SECRET)];
});
afterAll(() => system.close());

async function logIn(secret: string): Promise<string> {
  const answer = await post('/admin/login', { secret }, '');
  return String(answer.headers.get('set-cookie')).split(';', 1)[0] ?? '';
}

function post(
  path: string,
  fields: Record<string, string>,
  cookie = admin,
  headers: Record<string, string> = {},
) {
  return fetch(`${system.url}${path}`, {
    method: 'POST',
    redirect: 'manual',
    headers: { cookie, 'content-type': 'application/x-www-form-urlencoded', accept: 'text/html', ...headers },
    body: new URLSearchParams(fields).toString(),
  });
}

async function page(path: string, cookie = admin, headers: Record<string, string> = {}) {
  const answer = await fetch(`${system.url}${path}`, {
    headers: { cookie, accept: 'text/html', ...headers },
    redirect: 'manual',
  });
  return { status: answer.status, text: await answer.text(), headers: answer.headers };
}

const PAGES = ['', '/runs', '/start', '/keys', '/quarantine', '/switches', '/audit', '/health'];

describe('the console', () => {
  test('is where the root leads', async () => {
    const { status, headers } = await page('/');
    expect([status, headers.get('location')]).toEqual([302, '/admin']);
  });

  test.each(PAGES)(
    '/admin%s needs a login, shows a viewer no form that changes anything, and holds no script',
    async (path) => {
      const shown = await page(`/admin${path}`);
      const looked = await page(`/admin${path}`, viewer);

      expect((await page(`/admin${path}`, '')).status).toBe(401);
      expect([shown.status, looked.status]).toEqual([200, 200]);
      expect(looked.text).not.toContain('method="post"');
      expect(shown.text).not.toMatch(/<script|\son\w+=|style=/);
      expect(shown.headers.get('content-security-policy')).toContain("default-src 'none'");
    },
  );

  test('shows a target, starts a run for what is missing, and says what came of it', async () => {
    await system.addRows([1, 2, 3].map((n) => ({ tenant: 'acme', text: `${ROW_TEXT} ${n}` })));
    const before = await page('/admin');
    expect(before.text).toContain('0 of 3 rows have their embedding (0%)');
    expect(before.text).toContain('Start a run: 3 rows are missing.');
    expect((await page('/admin/start?target=notes')).text).toMatch(/Start the run \(under \$0\.0001/);

    const started = await post('/admin/start', { target: 'notes', batchSize: '2' });
    const location = started.headers.get('location') ?? '';
    expect([started.status, location]).toEqual([
      303,
      expect.stringMatching(/^\/admin\/runs\/[\w-]+\?said=started$/),
    ]);
    const [, runId = ''] = /runs\/([\w-]+)/.exec(location) ?? [];
    await system.settled(runId);

    const run = await page(location);
    expect(run.text).toContain('The run has started.');
    expect(run.text).toContain('Successfully backfilled 3 embeddings.');
    expect(run.text).toContain('run.started');
    const after = await page('/admin');
    expect(after.text).toContain('3 of 3 rows have their embedding (100%)');
    for (const { text } of [before, run, after]) expect(text).not.toContain(ROW_TEXT);
    expect((await page('/admin/audit')).text).toContain('console, ');
  });

  test('asks before it cancels or retries, and says why something was not done', async () => {
    const { items } = (await system.call('GET', '/api/v1/admin/backfill-embeddings')).body;
    const path = `/admin/runs/${items[0].runId}`;
    expect((await page(path)).text).not.toContain(`action="${path}/cancel"`);

    const asks = await post(`${path}/cancel`, {});
    expect([asks.status, await asks.text()]).toEqual([200, expect.stringContaining('No, go back')]);
    const refused = await (await post(`${path}/cancel`, { sure: 'yes' })).text();
    expect(refused).toContain('It was not done');
    expect(refused).toContain('succeeded');
  });

  test('holds and lets go, twice without harm', async () => {
    for (const hold of ['true', 'true', 'false', 'false']) {
      const changed = await post('/admin/switches', {
        scope: 'target',
        name: 'notes',
        hold,
        reason: 'planted reason',
      });
      expect(changed.headers.get('location')).toBe(
        `/admin/switches?said=${hold === 'true' ? 'held' : 'let-go'}`,
      );
      if (hold === 'true') expect((await page('/admin/switches')).text).toContain('planted reason');
    }
    expect((await page('/admin/switches')).text).not.toContain('planted reason');
  });

  test('stores, tries and removes a key, and never shows it', async () => {
    const apiKey = 'sk-planted-key-for-console-0042';
    system.openai.accounts.put({ key: apiKey, organization: 'org-hooli' });

    expect((await post('/admin/keys', { tenantId: 'hooli', apiKey })).headers.get('location')).toBe(
      '/admin/keys?said=key-stored',
    );
    const listed = (await page('/admin/keys')).text;
    expect(listed).toContain('…0042');
    expect(listed).not.toContain(apiKey);
    expect((await post('/admin/keys/check', { tenantId: 'hooli' })).status).toBe(303);
    expect((await post('/admin/keys/remove', { tenantId: 'hooli' })).headers.get('location')).toBe(
      '/admin/keys?remove=hooli',
    );
    expect((await page('/admin/keys?remove=hooli')).text).toContain('It is deleted for good.');
    expect((await post('/admin/keys/remove', { tenantId: 'hooli', sure: 'yes' })).status).toBe(303);
    expect((await page('/admin/keys')).text).not.toContain('…0042');
    const wrong = await (
      await post('/admin/keys', { tenantId: 'hooli', apiKey: 'sk-planted-wrong-key' })
    ).text();
    expect(wrong).toContain('It was not done');
    expect(wrong).not.toContain('sk-planted-wrong-key');
  });

  test('refuses a viewer, and a form of another site', async () => {
    expect((await post('/admin/start', { target: 'notes' }, viewer)).status).toBe(403);
    expect(
      (await post('/admin/start', { target: 'notes' }, admin, { 'sec-fetch-site': 'cross-site' })).status,
    ).toBe(403);
    expect((await post('/admin/start', { target: 'notes' }, '')).status).toBe(401);
  });

  test('works below a path that a proxy has put before it', async () => {
    const { text } = await page('/admin', admin, { 'x-forwarded-prefix': '/infill' });
    expect(text).toContain('href="/infill/admin/runs"');
    expect(text).not.toMatch(/(?:href|action)="\/admin/);
    const absent = await page('/admin/runs/none', admin, { 'x-forwarded-prefix': '/infill' });
    expect(absent.status).toBe(404);
    expect(absent.text).not.toMatch(/(?:href|action)="\/admin/);
    const login = await post('/admin/login', { secret: ADMIN_SECRET, next: '/admin/runs' }, '', {
      'x-forwarded-prefix': '/infill',
    });
    expect(login.headers.get('location')).toBe('/infill/admin/runs');
    expect(login.headers.get('set-cookie')).toContain('Path=/infill/admin');
  });

  test('shows what is written into it as text', async () => {
    await post('/admin/switches', {
      scope: 'tenant',
      name: '<script>alert(1)</script>',
      hold: 'true',
      reason: '"><img src=x>',
    });
    const { text } = await page('/admin/switches');
    expect(text).not.toMatch(/<script>|<img/);
    await post('/admin/switches', { scope: 'tenant', name: '<script>alert(1)</script>', hold: 'false' });
  });
});

test('embeddings without a stamp are adopted after a question', async () => {
  const refused = await post('/admin/adopt', { target: 'notes', sure: 'yes' });
  expect(await refused.text()).toContain('names no column as its stamp');
  expect((await post('/admin/adopt', { target: 'notes' })).headers.get('location')).toBe(
    '/admin/adopt?target=notes',
  );
  expect((await page('/admin/adopt?target=notes')).text).toContain('Nothing is sent to the provider.');
});

test('a viewer is asked nothing, and runs are filtered by the API', async () => {
  for (const path of ['/adopt?target=notes', '/keys?remove=acme', '/quarantine?target=notes&release=all'])
    expect((await page(`/admin${path}`, viewer)).text).not.toContain('method="post"');
  const { items } = (await system.call('GET', '/api/v1/admin/backfill-embeddings')).body;
  const shown = await page('/admin/runs?status=succeeded');
  expect(shown.text).toContain(items[0].runId);
  expect((await page('/admin/runs?status=failed')).text).not.toContain(items[0].runId);
  expect((await page('/admin/runs?status=failed&target=notes')).text).toContain('None.');
});
