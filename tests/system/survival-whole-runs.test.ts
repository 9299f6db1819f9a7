import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { QUEUES } from '../../src/queue/jobs.ts';
import type { Process } from '../support/process.ts';
import { isRealPostgres, type Json, type System, startSystem, until, wrongRows } from '../support/system.ts';

const BACKFILLS = '/api/v1/admin/backfill-embeddings';
const TENANTS = ['acme', 'globex', 'hooli', 'initech'];
/** On the embedded Postgres, which is one session, a tenth of the rows in as many batches. */
const rowsInAll = () => (isRealPostgres() ? 20_000 : 2_000);
const batchRows = () => rowsInAll() / 200;
const SLOTS = 4;
const WORKERS = 3;
/** A worker looks for runs without live jobs every 15 s, and takes up jobs of a dead one within 15 s. */
const GOES_ON_MS = 30_000;
/** After a batch's lock of 10 s: BullMQ looks for those every 5 s. */
const LOCK_OVER_MS = 20_000;

let system: System;
let workers: Process[];

beforeAll(async () => {
  system = await startSystem({
    workers: 0,
    proxied: true,
    env: { WORKER_CONCURRENCY: String(SLOTS) },
    openai: { acceptAnyKey: true },
  });
  workers = [];
  for (let count = 0; count < WORKERS; count++) workers.push(await startWorker());
}, 120_000);
afterAll(() => system?.close());
beforeEach(async () => {
  await system.sql`TRUNCATE notes, infill.runs, infill.run_tenants, infill.run_batches, infill.audit_events CASCADE`;
  system.openai.ledger.reset();
});

/** Straight to Redis: only the API's connections go through the proxy. */
const startWorker = () => system.startWorker({ REDIS_URL: system.redisUrl });

/** Rows that take `seconds` at least, by all slots together. */
async function addRows(seconds: number): Promise<number> {
  const rows = rowsInAll();
  const rounds = rows / batchRows() / (WORKERS * SLOTS);
  system.openai.setLatency({ fixedMs: Math.round((seconds * 1_000) / rounds) });
  for (const tenant of TENANTS) {
    await system.addRows(
      Array.from({ length: rows / TENANTS.length }, (_, index) => ({ tenant, text: `${tenant} ${index}` })),
    );
  }
  return rows;
}

async function startRun(): Promise<string> {
  const { body } = await system.call('POST', `${BACKFILLS}?batchSize=${batchRows()}`);
  return body.runId;
}

async function untilEmbedded(runId: string, rows: number): Promise<void> {
  await until(
    async () => ((await system.run(runId)).rows?.embedded ?? 0) >= rows,
    `${rows} rows are embedded`,
  );
}

/** @param twiceMax rows that two workers may have had in hand: the later of them finds those written. */
async function expectWhole(run: Json, rows: number, twiceMax = 0): Promise<void> {
  expect(run).toMatchObject({ status: 'succeeded', reason: null, rows: { planned: rows, embedded: rows } });
  expect(run.rows).toMatchObject({ gone: 0, failed: 0, quarantined: 0, remaining: 0 });
  expect(run.rows.superseded).toBeLessThanOrEqual(twiceMax);
  expect(wrongRows(await system.rows())).toEqual([]);
}

const paidAgain = () => {
  const { billedInputs, billedDistinct } = system.openai.ledger.summary();
  return billedInputs - billedDistinct;
};

describe('in the middle of 20,000 rows', () => {
  test('Redis loses everything: the run goes on by itself within 30 s, and pays again only for what was in flight', async () => {
    const rows = await addRows(6);
    const runId = await startRun();
    await untilEmbedded(runId, rows / 4);

    const redis = new Redis(system.redisUrl, { maxRetriesPerRequest: null });
    await redis.flushdb();
    redis.disconnect();
    const lostAtMs = Date.now();
    await until(
      async () =>
        (await system.sql`SELECT 1 FROM infill.audit_events WHERE action = 'run.healed'`).length > 0,
      'the run is planned again',
      undefined,
      GOES_ON_MS,
    );
    const { generation } = await system.run(runId);
    await until(
      async () =>
        (
          await system.sql`
            SELECT 1 FROM infill.run_batches WHERE run_id = ${runId} AND generation = ${generation}`
        ).length > 0,
      'a batch of the new plan is through',
      undefined,
      GOES_ON_MS,
    );
    expect(Date.now() - lostAtMs).toBeLessThan(GOES_ON_MS);

    // Each slot had one batch in hand.
    const inHandMax = WORKERS * SLOTS * batchRows();
    await expectWhole(await system.settled(runId), rows, inHandMax);
    expect(paidAgain()).toBeLessThanOrEqual(inHandMax);
  }, 120_000);

  test('all workers are replaced one by one: no attempt is used, no batch fails, nothing is paid again', async () => {
    const rows = await addRows(12);
    const runId = await startRun();
    await untilEmbedded(runId, rows / 10);

    const old = workers.map((worker) => ({ worker, saidBefore: worker.output().length }));
    const replaced: Process[] = [];
    for (const { worker } of old) {
      replaced.push(await startWorker());
      expect(await worker.stop('SIGTERM')).toBe(0);
    }
    workers = replaced;
    expect((await system.run(runId)).status, 'the run is still at work').toBe('running');

    await expectWhole(await system.settled(runId), rows);
    expect(paidAgain()).toBe(0);
    const saidByOld = old.map(({ worker, saidBefore }) => worker.output().slice(saidBefore));
    const said = [...saidByOld, ...replaced.map((worker) => worker.output())].join('\n');
    expect(said.match(/^.*"batch_not_ended".*$/gm) ?? []).toEqual([]);
    expect(said).not.toMatch(/"attempt":[2-9]/);
    expect(saidByOld.every((lines) => lines.includes('"batch_ended"'))).toBe(true);
    expect((await system.run(runId)).generation).toBe(1);
  }, 120_000);
});

/** Embedded, a transaction that stands still keeps everybody from the one session. */
const onlyReal = test.skipIf(!isRealPostgres());

onlyReal(
  'a frozen worker that wakes after its locks are over writes nothing wrong and counts nothing twice',
  async () => {
    const rows = await addRows(6);
    const runId = await startRun();
    await untilEmbedded(runId, rows / 10);
    const [frozen] = workers as [Process];
    frozen.child.kill('SIGSTOP');

    const settled = await system.settled(runId, LOCK_OVER_MS + 40_000);
    await expectWhole(settled, rows);
    const before = await system.listed(runId, 'tenants');
    // Texts that the frozen worker may hold an answer for change, and lose their vectors.
    await system.sql`UPDATE notes SET content = content || ' edited', embedding = NULL WHERE id % 7 = 0`;
    const saidBefore = frozen.output().length;
    frozen.child.kill('SIGCONT');
    await until(
      async () => /"lock_lost"|"batch_ended"|"batch_not_ended"/.test(frozen.output().slice(saidBefore)),
      'the woken worker finds out about its batches',
    );
    // What it still does is over once it has ended.
    await frozen.stop('SIGTERM');
    workers = [...workers.slice(1), await startWorker()];

    const edited = (await system.rows()).filter(({ content }) => content?.endsWith('edited'));
    expect(edited.filter(({ embedding }) => embedding !== null)).toEqual([]);
    // What it asked and paid for is true, and is said; nothing else is.
    const endOf = ({ status, settledAt, generation, rows: counts, coverage, message }: Json) => ({
      status,
      settledAt,
      generation,
      counts,
      coverage,
      message,
    });
    expect(endOf(await system.run(runId))).toEqual(endOf(settled));
    const rowsOf = (tenants: Json[]) =>
      tenants.map(({ tenantId, status, rows: counts }) => ({ tenantId, status, counts }));
    expect(rowsOf(await system.listed(runId, 'tenants'))).toEqual(rowsOf(before));

    expect(await system.backfill(`?batchSize=${batchRows()}`)).toMatchObject({
      status: 'succeeded',
      rows: { embedded: edited.length },
    });
    expect(wrongRows(await system.rows())).toEqual([]);
  },
  180_000,
);

test('a run whose API died between its insert and its job starts within 30 s', async () => {
  const rows = await addRows(1);
  const [api] = system.processes as [Process];
  const reached = system.proxies.redis.cutAt('run notes');
  const asked = startRun().catch(() => undefined);
  await reached;
  await api.stop('SIGKILL');
  await asked;
  const [run] = await system.sql<{ runId: string; status: string }[]>`
    SELECT run_id AS "runId", status FROM infill.runs`;
  expect(run?.status).toBe('queued');

  await until(
    async () => (await system.sql`SELECT 1 FROM infill.runs WHERE status = 'queued'`).length === 0,
    'the run has started',
    undefined,
    GOES_ON_MS,
  );

  await system.startApi();
  await expectWhole(await system.settled(run?.runId ?? ''), rows);
});

test('a job of a newer version is left alone: it is neither run nor failed', async () => {
  const redis = new Redis(system.redisUrl, { maxRetriesPerRequest: null });
  const queue = new Queue(QUEUES.batches, { connection: redis, prefix: '{infill}' });
  const job = await queue.add('batch of tomorrow', { v: 99, wanted: 'something new' }, { attempts: 3 });

  await until(async () => (await job.getState()) === 'delayed', 'the job waits for a worker that knows it');

  const seen = await queue.getJob(job.id ?? '');
  expect({ attempts: seen?.attemptsMade, failed: seen?.failedReason, data: seen?.data }).toEqual({
    attempts: 0,
    failed: undefined,
    data: { v: 99, wanted: 'something new' },
  });
  await until(
    async () => workers.some((worker) => worker.output().includes('"job_of_unknown_version"')),
    'a worker says so',
  );
  await queue.remove(job.id ?? '');
  await queue.close();
  redis.disconnect();
});
