import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readAllValues } from '../support/redis-values.ts';
import {
  ADMIN_SECRET,
  type Json,
  jsonBody,
  PLATFORM_KEY,
  type System,
  startSystem,
  until,
} from '../support/system.ts';

const TENANTS = ['acme', 'globex', 'hooli', 'initech'];
const keyOf = (tenant: string) => `sk-planted-key-of-${tenant}-8f2c`;
const DATABASE_PASSWORD = 'planted-database-password';
const REFUSED_KEY = 'sk-planted-but-never-valid-77aa';
/** In every row, and in what the provider says of the rows that it refuses. */
const MARKER = 'ROWTEXT-5b1e';
const textOf = (tenant: string, index: number) => `${MARKER} of ${tenant}, insight number ${index}`;

let system: System;
let redis: Redis;
let planted: Map<string, string>;
let runs: Json[];
/** Every HTTP answer of the test, by request. */
const answers = new Map<string, string>();
/** Whatever was ever seen in Redis. */
const redisFinds = new Set<string>();
let redisValuesSeen = 0;

async function ask(method: string, path: string, init: RequestInit = {}): Promise<Json> {
  const { body, headers } = await system.call(method, path, init);
  const said = typeof body === 'string' ? body : JSON.stringify(body);
  answers.set(`${method} ${path} ${answers.size}`, `${JSON.stringify([...headers])}\n${said}`);
  return body;
}

function findPlanted(text: string): string[] {
  return [...planted].filter(([, secret]) => text.includes(secret)).map(([name]) => name);
}

async function lookIntoRedis(): Promise<void> {
  for (const { key, text } of await readAllValues(redis)) {
    redisValuesSeen += 1;
    for (const name of findPlanted(`${key}\n${text}`)) redisFinds.add(`${name} in ${key}`);
  }
}

async function backfillWatched(query: string): Promise<Json> {
  const { runId } = await ask('POST', `/api/v1/admin/backfill-embeddings${query}`);
  await until(
    async () => {
      await lookIntoRedis();
      return (await ask('GET', `/api/v1/admin/backfill-embeddings/${runId}`)).settledAt !== null;
    },
    'the run settles',
    undefined,
    60_000,
  );
  return system.run(runId);
}

beforeAll(async () => {
  system = await startSystem({
    api: false,
    workers: 0,
    env: {
      LOG_LEVEL: 'trace',
      BREAKER_OPEN_MS: '200',
      OPENAI_ORG_ID: 'org-of-the-machine',
      OPENAI_PROJECT_ID: 'proj-of-the-machine',
    },
  });
  const database = new URL(system.databaseUrl);
  // Both test databases let everybody in, whatever the password.
  database.password = DATABASE_PASSWORD;
  system.env.DATABASE_URL = database.href;
  redis = new Redis(system.redisUrl);
  planted = new Map([
    ['the admin secret', ADMIN_SECRET],
    ["the platform's key", PLATFORM_KEY],
    ['the sealing key', system.env.CREDENTIALS_KEY ?? ''],
    ['the password of the database', DATABASE_PASSWORD],
    ['a refused key', REFUSED_KEY],
    ["a row's text", MARKER],
    ...TENANTS.map((tenant): [string, string] => [`the key of ${tenant}`, keyOf(tenant)]),
  ]);
  await system.startApi();
  await system.startWorker();

  for (const tenant of TENANTS) {
    await system.giveKey(tenant, keyOf(tenant));
    await system.addRows(Array.from({ length: 12 }, (_, index) => ({ tenant, text: textOf(tenant, index) })));
  }
  await system.addRows([{ tenant: 'of the platform', text: textOf('nobody', 1) }]);
  await makeEverythingFail();
  runs = [await backfillWatched('?batchSize=4&dryRun=true'), await backfillWatched('?batchSize=4')];
  await askForEverything();
}, 180_000);
afterAll(async () => {
  redis.disconnect();
  await system.close();
});

/** Each tenant meets another trouble, whose words quote the key or the text. */
async function makeEverythingFail(): Promise<void> {
  const { openai, sql } = system;
  openai.accounts.setState(keyOf('globex'), 'revoked');
  openai.setPoison([
    {
      marker: textOf('hooli', 3),
      message: `Invalid input: "${textOf('hooli', 3)}"`,
      code: `bad ${textOf('hooli', 3)}`,
    },
  ]);
  const said = `Sorry, ${keyOf('initech')} sent "${textOf('initech', 1)}"`;
  // Not the probes, which are one word.
  const when = { key: keyOf('initech'), inputsMin: 2 };
  openai.faults.add({
    when,
    times: 2,
    action: { kind: 'status', status: 500, message: said, headers: { 'x-request-id': textOf('initech', 1) } },
  });
  openai.faults.add({ when, times: 1, action: { kind: 'html' } });
  openai.faults.add({ when, times: 1, action: { kind: 'error_in_200', message: said } });
  openai.faults.add({ when, times: 1, action: { kind: 'nan' } });
  // Postgres tells a whole row when it breaks a constraint.
  await sql.unsafe(
    `ALTER TABLE notes ADD CONSTRAINT refusing CHECK (embedding IS NULL OR content NOT LIKE '%acme, insight number 5')`,
  );
}

async function askForEverything(): Promise<void> {
  const admin = '/api/v1/admin';
  for (const { runId } of runs) {
    for (const what of ['', '/tenants', '/rows'])
      await ask('GET', `${admin}/backfill-embeddings/${runId}${what}`);
    await ask('GET', `/admin/runs/${runId}`);
  }
  for (const path of ['backfill-embeddings', 'targets', 'estimate', 'quarantine', 'credentials', 'switches'])
    await ask('GET', `${admin}/${path}`);
  for (const tenant of TENANTS) await ask('GET', `${admin}/tenants/${tenant}/credential`);
  await ask('POST', `${admin}/tenants/globex/credential/check`);
  for (const path of ['/docs/json', '/metrics', '/readyz', '/admin/queues', '/admin/queues/api/queues'])
    await ask('GET', path);
  for (const queue of ['runs', 'tenants', 'batches'])
    await ask('GET', `/admin/queues/api/queues?activeQueue=backfill-${queue}&jobsPerPage=100`);

  const put = (init: RequestInit, query = '') =>
    ask('PUT', `${admin}/tenants/umbrella/credential${query}`, init);
  const json = { 'content-type': 'application/json' };
  await put(jsonBody({ apiKey: REFUSED_KEY }));
  await put(jsonBody({ apiKey: `${REFUSED_KEY} with a space` }));
  await put(jsonBody({ apiKey: REFUSED_KEY, [REFUSED_KEY.slice(0, 3)]: REFUSED_KEY }));
  await put(jsonBody({ apiKey: { nested: REFUSED_KEY } }));
  await put(jsonBody({ apiKey: REFUSED_KEY, baseUrl: `http://${REFUSED_KEY}@example.org` }));
  await put({ headers: json, body: `{"apiKey": "${REFUSED_KEY}"` });
  await put({ headers: { 'content-type': 'text/plain' }, body: REFUSED_KEY });
  await ask('GET', `${admin}/targets`, { headers: { 'x-admin-secret': `${ADMIN_SECRET}x` } });
  await ask('POST', `${admin}/backfill-embeddings`, {
    headers: json,
    body: JSON.stringify({ apiKey: REFUSED_KEY }),
  });
  await lookIntoRedis();
}

test('the runs met every trouble that was planted', async () => {
  const [dry, real] = runs;

  expect(dry).toMatchObject({ dryRun: true, status: 'incomplete' });
  expect(real).toMatchObject({
    status: 'incomplete',
    rows: { embedded: 35, quarantined: 2, failed: 0, remaining: 14 },
  });
  expect(real.reason).toContain('globex: key_invalid');
  expect(real.reason).toContain('hooli: 1 row is quarantined');
  expect(real.reason).toContain('acme: 1 row is quarantined');
  for (const word of ['provider_failed', 'answer_', 'key_invalid', 'input_rejected'])
    expect(system.output().includes(word), word).toBe(true);
});

test('no secret, no key and no text is in any line that a process writes, at the level trace', () => {
  for (const line of system.output().split('\n')) expect(findPlanted(line), line).toEqual([]);
  expect(system.output().includes('"level":"debug"')).toBe(true);
});

test('none is in any key or value of Redis, while runs are at work and afterwards', () => {
  expect(redisValuesSeen).toBeGreaterThan(200);
  expect([...redisFinds]).toEqual([]);
});

test('none is in any answer, error or page', () => {
  expect(answers.size).toBeGreaterThan(40);
  for (const [request, answer] of answers) expect(findPlanted(answer), `${request}: ${answer}`).toEqual([]);
});

test('none is in any table of Infill: not in a reason, a message, an audit event, nor unsealed', async () => {
  const tables = await system.sql<{ name: string }[]>`
    SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'infill'`;
  expect(tables.length).toBeGreaterThan(7);

  for (const { name } of tables) {
    const rows = await system.sql<{ row: string }[]>`SELECT t::text AS row FROM infill.${system.sql(name)} t`;
    for (const { row } of rows) {
      // Bytes are shown in hex: the sealed keys are searched as bytes, too.
      const bytes = row.replaceAll(/[0-9a-f]{2}/g, (hex) => String.fromCharCode(Number.parseInt(hex, 16)));
      expect(findPlanted(`${row}\n${bytes}`), `${name}: ${row}`).toEqual([]);
    }
  }
  const quarantined = await system.sql<{ code: string; message: string }[]>`
    SELECT code, message FROM infill.quarantined_rows ORDER BY code`;
  expect(quarantined.map(({ code }) => code)).toEqual(['input_rejected', 'row_refused']);
  expect(quarantined[0]?.message).toContain('Invalid input: "[text]"');
  expect(quarantined[1]?.message).toContain('violates check constraint "refusing"');
});

test("nothing of the machine's environment goes out with a tenant's key", () => {
  for (const { sentOrganization, sentProject } of system.openai.ledger.entries)
    expect({ sentOrganization, sentProject }).toEqual({ sentOrganization: null, sentProject: null });
});
