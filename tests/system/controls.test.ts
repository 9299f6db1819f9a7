import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type System, startSystem, until } from '../support/system.ts';

let system: System;

beforeAll(async () => {
  system = await startSystem({ env: { WORKER_CONCURRENCY: '2' } });
});
afterAll(() => system.close());
beforeEach(async () => {
  await system.sql`TRUNCATE notes`;
  system.openai.faults.clear();
  system.openai.setLatency({ fixedMs: 40 });
});

const BACKFILLS = '/api/v1/admin/backfill-embeddings';
const metrics = async (): Promise<string> => (await system.call('GET', '/metrics')).body;
const texts = (tenant: string, count: number) =>
  Array.from({ length: count }, (_, index) => ({ tenant, text: `${tenant} ${index}` }));

async function startSome(rows: number): Promise<string> {
  await system.addRows([...texts('acme', rows), ...texts('globex', rows)]);
  const { body } = await system.call('POST', `${BACKFILLS}?batchSize=5`);
  await until(async () => (await system.run(body.runId)).rows.embedded > 0, 'some rows are embedded');
  return body.runId;
}

describe('an operator', () => {
  test('cancels a run: it stops soon, and what was paid for is written and counted', async () => {
    const runId = await startSome(200);

    expect((await system.call('POST', `${BACKFILLS}/${runId}/cancel`)).status).toBe(202);
    const run = await system.settled(runId, 5_000);

    expect(run.status).toBe('cancelled');
    const filled = (await system.rows()).filter((row) => row.embedding !== null).length;
    expect(run.rows.embedded).toBe(filled);
    expect(filled).toBeLessThan(400);
    expect((await system.call('POST', `${BACKFILLS}/${runId}/cancel`)).status).toBe(200);
  });

  test.each(['cancel', 'pause'] as const)(
    'stops a run by %s within 5 s also while the provider turns every request away for a moment',
    async (control) => {
      system.openai.ledger.reset();
      system.openai.faults.add({ action: { kind: 'status', status: 429, retryAfterMs: 10 } });
      await system.addRows(texts('acme', 5));
      const { runId } = (await system.call('POST', BACKFILLS)).body;
      await until(async () => system.openai.ledger.entries.length >= 3, 'some requests were turned away');

      await system.call('POST', `${BACKFILLS}/${runId}/${control}`);
      const isStopped = async () => ['cancelled', 'paused'].includes((await system.run(runId)).status);

      await until(isStopped, 'the run stops', undefined, 5_000);
      await system.call('POST', `${BACKFILLS}/${runId}/cancel`);
      await system.settled(runId);
    },
  );

  test('pauses a run and resumes it: it goes on with what is missing', async () => {
    const runId = await startSome(60);

    await system.call('POST', `${BACKFILLS}/${runId}/pause`);
    await until(async () => (await system.run(runId)).status === 'paused', 'the run is paused');
    expect((await system.call('POST', `${BACKFILLS}/${runId}/retry`)).status).toBe(409);
    await system.call('POST', `${BACKFILLS}/${runId}/resume`);

    expect(await system.settled(runId)).toMatchObject({
      status: 'succeeded',
      rows: { embedded: 120, remaining: 0 },
    });
  });

  test('retries a cancelled run: it succeeds, also for tenants that had nothing left', async () => {
    const runId = await startSome(60);
    await system.call('POST', `${BACKFILLS}/${runId}/cancel`);
    await system.settled(runId);
    await system.sql`UPDATE notes SET embedding = array_fill(1, ARRAY[8])::real[]::vector WHERE tenant_id = 'globex' AND embedding IS NULL`;

    expect((await system.call('POST', `${BACKFILLS}/${runId}/retry`)).status).toBe(202);

    expect(await system.settled(runId)).toMatchObject({ status: 'succeeded', rows: { remaining: 0 } });
  });

  test('switches a tenant off: its part holds and says so, the others go on; switched on it ends', async () => {
    const put = (body: object) =>
      system.call('PUT', '/api/v1/admin/switches', {
        body: JSON.stringify(body),
        headers: { 'content-type': 'application/json' },
      });
    await put({ scope: 'tenant', name: 'acme', hold: true, reason: 'maintenance' });
    await system.addRows([...texts('acme', 20), ...texts('globex', 20)]);
    const { body } = await system.call('POST', `${BACKFILLS}?batchSize=5`);
    await until(async () => (await system.run(body.runId)).rows.embedded === 20, 'globex is embedded');
    await until(
      async () => (await system.run(body.runId)).message.includes('maintenance'),
      'the run says why it holds',
    );

    await until(async () => system.output().includes('"tenant_held"'), 'the log says so, too');
    // What holds one tenant is not taken back by another that goes on.
    expect(system.output().match(/"tenant_held"/g)).toHaveLength(1);
    expect((await system.rows()).filter(({ embedding }) => embedding !== null)).toHaveLength(20);
    expect(await metrics()).toContain('infill_runs_unsettled{target="notes",status="running"} 1\n');

    await put({ scope: 'tenant', name: 'acme', hold: false });

    expect(await system.settled(body.runId)).toMatchObject({ status: 'succeeded', rows: { embedded: 40 } });
    // What a scrape read is shown for two seconds.
    await until(async () => !(await metrics()).includes('infill_runs_unsettled{'), 'no run is unsettled');
    expect(await metrics()).toContain('infill_missing_rows{target="notes"} 0\n');
  });
});

describe('a move that the status does not allow is a 409 that names the status:', () => {
  const expectForbidden = async (runId: string, control: string, runStatus: string) => {
    const answer = await system.call('POST', `${BACKFILLS}/${runId}/${control}`);
    expect(answer).toMatchObject({
      status: 409,
      body: { type: '/docs/problems#status_forbids', runStatus, runId },
    });
    expect(answer.body.detail).toBe(`A run that is ${runStatus} cannot take a ${control}.`);
    expect(await system.run(runId)).toMatchObject({ status: runStatus });
  };

  test.each(['pause', 'resume', 'cancel', 'retry'])('%s of a run that succeeded', async (control) => {
    const { runId } = await system.backfill();

    await expectForbidden(runId, control, 'succeeded');
  });

  test('pause of a run that is cancelled', async () => {
    const runId = await startSome(60);
    await system.call('POST', `${BACKFILLS}/${runId}/cancel`);
    await system.settled(runId);

    await expectForbidden(runId, 'pause', 'cancelled');
  });
});
