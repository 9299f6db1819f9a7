import { createHmac } from 'node:crypto';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Json, type System, startSystem, until } from '../support/system.ts';

const SECRET = 'planted-webhook-secret-0815';
const TOKEN = 'planted-webhook-token-4711';
const BACKFILLS = '/api/v1/admin/backfill-embeddings';

type Post = { readonly headers: IncomingHttpHeaders; readonly body: string; readonly event: Json };

/** In place of a status: the post is never answered. */
const HANG = 0;

/** What is posted, and what the next posts are answered; 200 when nothing is said. */
const posts: Post[] = [];
const answers: number[] = [];
let receiver: Server;
let system: System;

beforeAll(async () => {
  receiver = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks).toString('utf8');
    posts.push({ headers: request.headers, body, event: JSON.parse(body) });
    const status = answers.shift() ?? 200;
    if (status !== HANG) response.writeHead(status, { location: '/elsewhere' }).end();
  });
  await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve));
  const { port } = receiver.address() as AddressInfo;
  system = await startSystem({
    workers: 2,
    env: {
      WORKER_CONCURRENCY: '2',
      WEBHOOK_URL: `http://127.0.0.1:${port}/hook?token=${TOKEN}`,
      WEBHOOK_SECRET: SECRET,
    },
  });
});
afterAll(async () => {
  await system?.close();
  await new Promise((resolve) => receiver.close(resolve));
});
beforeEach(async () => {
  await system.sql`TRUNCATE notes, infill.runs, infill.run_tenants, infill.run_batches, infill.audit_events CASCADE`;
  posts.length = 0;
  answers.length = 0;
  system.openai.setLatency({ fixedMs: 0 });
});

const texts = (count: number) =>
  Array.from({ length: count }, (_, index) => ({ tenant: 'acme', text: `note ${index}` }));
const allDelivered = async () =>
  (await system.sql`SELECT 1 FROM infill.audit_events WHERE deliver_at IS NOT NULL`).length === 0;

describe('the end of a run', () => {
  test('is posted once, signed, with its run, status, reason and coverage', async () => {
    await system.addRows(texts(3));
    const run = await system.backfill();
    await until(allDelivered, 'the event is delivered');

    expect(posts).toHaveLength(1);
    const [{ headers, body, event } = {} as Post] = posts;
    expect(event).toMatchObject({
      action: 'run.succeeded',
      status: 'succeeded',
      runId: run.runId,
      target: 'notes',
      details: { reason: null },
    });
    expect(Math.abs(Date.now() - Date.parse(event.sentAt))).toBeLessThan(60_000);
    expect(headers['content-type']).toBe('application/json');
    expect(headers['x-infill-event']).toBe(String(event.eventId));
    expect(headers['x-infill-signature']).toBe(
      `sha256=${createHmac('sha256', SECRET).update(body).digest('hex')}`,
    );
  });

  test('is posted whatever it is: nothing to do, cancelled, incomplete', async () => {
    const empty = await system.backfill();
    await system.addRows(texts(60));
    const limited = await system.backfill('?limit=1');
    system.openai.setLatency({ fixedMs: 200 });
    const { body: stopped } = await system.call('POST', `${BACKFILLS}?batchSize=2`);
    await system.call('POST', `${BACKFILLS}/${stopped.runId}/cancel`);
    await system.settled(stopped.runId);
    await until(allDelivered, 'the events are delivered');

    const ends = Object.fromEntries(posts.map(({ event }) => [event.runId, event.status]));
    expect(ends).toEqual({
      [empty.runId]: 'succeeded',
      [limited.runId]: 'incomplete',
      [stopped.runId]: 'cancelled',
    });
    expect(posts).toHaveLength(3);
  });
});

describe('a post that is not answered by a 2xx', () => {
  test.each([
    ['an error', 500],
    ['a redirect, which is not followed', 302],
  ])('is repeated under the same event id: %s', async (_name, status) => {
    answers.push(status);
    await system.backfill();
    await until(allDelivered, 'the event is delivered');

    expect(posts).toHaveLength(2);
    expect(new Set(posts.map(({ event }) => event.eventId)).size).toBe(1);
    expect(posts.every(({ headers }) => headers['x-infill-event'] === String(posts[0]?.event.eventId))).toBe(
      true,
    );
  });

  test('is logged without the address, which may hold a secret', () => {
    expect(system.output()).toContain('"webhook_failed"');
    expect(system.output()).not.toContain(TOKEN);
    expect(system.output()).not.toContain(SECRET);
  });
});

test('an event whose worker died while it was posted is posted by another, and nothing else is', async () => {
  await system.backfill();
  await until(allDelivered, 'the event is delivered');
  const [{ event } = {} as Post] = posts;
  posts.length = 0;

  // As the dead worker left it: taken, not recorded, and its lease over.
  await system.sql`UPDATE infill.audit_events SET deliver_at = now() WHERE event_id = ${event.eventId}`;
  await until(allDelivered, 'the event is delivered again');

  expect(posts.map((post) => post.event.eventId)).toEqual([event.eventId]);
});

// The last of the file: it replaces the workers.
test('a worker that is told to stop does not wait for a receiver that hangs, and the next one posts at once', async () => {
  answers.push(HANG);
  await system.backfill();
  await until(async () => posts.length === 1, 'the event is posted');

  const startedMs = performance.now();
  const codes = await Promise.all(system.processes.slice(1).map((worker) => worker.stop()));
  expect(performance.now() - startedMs).toBeLessThan(5_000);
  expect(codes).toEqual([0, 0]);

  await system.startWorker();
  await until(allDelivered, 'the event is delivered');
  expect(posts.map(({ event }) => event.eventId)).toEqual([posts[0]?.event.eventId, posts[0]?.event.eventId]);
});
