/** The story's functions in this process: a real database, real queues that nobody works on, and a provider in memory. */

import { Redis } from 'ioredis';
import postgres from 'postgres';
import { CarefulWrites } from '../../src/backfill/careful-writes.ts';
import type { BatchDeps, StoryLog } from '../../src/backfill/deps.ts';
import { KeyGate } from '../../src/backfill/key-gate.ts';
import { LongWaits } from '../../src/backfill/long-waits.ts';
import { EmbedError, type FailureCode } from '../../src/core/failures.ts';
import { TargetsFile, toTargets } from '../../src/core/target.ts';
import { createKeyring } from '../../src/credentials/keyring.ts';
import { openDatabase } from '../../src/db/client.ts';
import { createInspector } from '../../src/db/inspector.ts';
import { openLane } from '../../src/db/lane.ts';
import type { Embedder } from '../../src/openai/embedder.ts';
import type { Pacer } from '../../src/pacing/pacer.ts';
import { createPaidTexts } from '../../src/pacing/paid-texts.ts';
import { SlotShares } from '../../src/pacing/slot-shares.ts';
import { closeQueues, openQueues, type Queues } from '../../src/queue/enqueue.ts';
import { type Hooks, hookedDb, hookedLane } from './hooked-db.ts';
import { createTestDatabase, createTestRedis } from './services.ts';
import { DIMENSIONS, isRealPostgres, MODEL, type Row, vectorOf } from './system.ts';

export type Story = Awaited<ReturnType<typeof openStory>>;

/** A text with this word in it is refused by the provider. */
export const POISON = 'POISON';

/** Opens everything; table `notes (id bigint, tenant_id, content, embedding)` is the target `notes`. */
export async function openStory() {
  const [database, redisService] = [await createTestDatabase(), await createTestRedis()];
  const sql = postgres(database.url, { max: 2, onnotice: () => undefined });
  await sql.unsafe(`
    CREATE TABLE notes (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, tenant_id text, content text, embedding vector(${DIMENSIONS}));
    CREATE INDEX notes_missing ON notes (tenant_id, id) WHERE embedding IS NULL`);
  // Nobody kills this Postgres, and these tests commit by the ten thousand: not one has to wait for the disk.
  if (isRealPostgres())
    await sql.unsafe(
      `ALTER DATABASE ${new URL(database.url).pathname.slice(1)} SET synchronous_commit = off`,
    );
  const { db, close } = openDatabase(database.url, { connectionsMax: 8, applicationName: 'infill-story' });
  const lane = openLane(database.url, { connectionsMax: 8, applicationName: 'infill-story' });
  const redis = new Redis(redisService.url, { maxRetriesPerRequest: null });
  const queues = openQueues(redis);
  const provider = new MemoryProvider();
  const events: { event: string; fields: object }[] = [];
  const note = (fields: object, event: string) => void events.push({ event, fields });

  const deps: BatchDeps = {
    db,
    lane,
    queues,
    inspect: createInspector(db, TARGETS),
    windowOf: async () => 2,
    gate: async () => ({ kind: 'open' }),
    announcesEnds: false,
    log: { info: note, warn: note, error: note } satisfies StoryLog,
    keyring: createKeyring(db, KEYS),
    pacer: unhurriedPacer(),
    embedder: provider,
    keyGate: new KeyGate(),
    longWaits: new LongWaits(),
    writes: new CarefulWrites(),
    paidTexts: createPaidTexts(redis, 0),
    slotShares: new SlotShares({ slots: 16, onLent: () => undefined }),
    tokenizer: { countTokens: () => 1, truncateToTokens: (text) => text },
  };

  return {
    deps,
    sql,
    redis,
    queues,
    provider,
    events,
    databaseUrl: database.url,
    redisUrl: redisService.url,
    /** The same deps for another process: nothing but the services is shared, and each statement goes by way of `hooks`. */
    process: (hooks: Hooks, other: { queues?: Queues } = {}): BatchDeps => ({
      ...deps,
      db: hookedDb(db, hooks),
      lane: hookedLane(lane, hooks),
      queues: other.queues ?? queues,
      inspect: createInspector(hookedDb(db, hooks), TARGETS),
      embedder: { embed: async (...args) => hooks.around(() => provider.embed(...args)) },
      keyGate: new KeyGate(),
      longWaits: new LongWaits(),
      writes: new CarefulWrites(),
    }),
    rows: async (): Promise<Row[]> => [
      ...(await sql<Row[]>`SELECT id, tenant_id, content, embedding::text FROM notes ORDER BY id`),
    ],
    addRows: (rows: readonly { tenant: string | null; text: string | null }[]) => sql`
      INSERT INTO notes (tenant_id, content)
      SELECT * FROM unnest(${rows.map((row) => row.tenant)}::text[], ${rows.map((row) => row.text)}::text[])`,
    /** Forgets all rows, runs and jobs. */
    reset: async () => {
      // Not TRUNCATE: it writes new files for each table, half a second in all.
      await sql.unsafe(KEPT_TABLES.map((table) => `DELETE FROM ${table}`).join(';'));
      await redis.flushdb();
      provider.calls.length = 0;
      provider.failNext.length = 0;
      events.length = 0;
    },
    /** Keeps all rows, runs and jobs as they are. Returns the function that brings them back, as often as wanted. */
    save: async (): Promise<() => Promise<void>> => {
      await sql.unsafe(
        KEPT_TABLES.map(
          (table) => `DROP TABLE IF EXISTS saved_${nameOf(table)};
                      CREATE TABLE saved_${nameOf(table)} AS SELECT * FROM ${table}`,
        ).join(';'),
      );
      const saved = await dumpRedis(redis);
      return async () => {
        const steps = KEPT_TABLES.map(
          (table) => `DELETE FROM ${table};
                      INSERT INTO ${table} OVERRIDING SYSTEM VALUE SELECT * FROM saved_${nameOf(table)}`,
        );
        await sql.unsafe(steps.join(';'));
        await saved();
      };
    },
    close: async () => {
      await closeQueues(queues);
      redis.disconnect();
      await lane.close();
      await close();
      await sql.end({ timeout: 2 });
      await redisService.close();
      await database.close();
    },
  };
}

const KEPT_TABLES = [
  'notes',
  'infill.runs',
  'infill.run_tenants',
  'infill.run_batches',
  'infill.quarantined_rows',
  'infill.audit_events',
  'infill.leases',
];

const nameOf = (table: string) => table.replace(/.*\./, '');

/** Returns the function that makes Redis hold what it holds now, and nothing else. */
async function dumpRedis(redis: Redis): Promise<() => Promise<void>> {
  const dumps: [string, Buffer][] = [];
  for (const key of await redis.keys('*')) {
    const dump = await redis.dumpBuffer(key);
    if (dump !== null) dumps.push([key, dump]);
  }
  return async () => {
    const pipeline = redis.pipeline().flushdb();
    for (const [key, dump] of dumps) pipeline.restore(key, 0, dump);
    await pipeline.exec();
  };
}

const TARGETS = toTargets(
  TargetsFile.parse({
    targets: {
      notes: {
        table: 'notes',
        id: 'id',
        tenant: 'tenant_id',
        text: ['content'],
        embedding: 'embedding',
        model: MODEL,
        dimensions: DIMENSIONS,
      },
    },
  }),
);

const KEYS = {
  platformKey: 'sk-planted-platform-key-0002',
  defaultBaseUrl: 'http://provider.invalid/v1',
  policy: 'fallback',
  sealingKey: null,
} as const;

/** Answers at once with the vector of each text, unless a failure was planted. */
class MemoryProvider implements Embedder {
  /** The texts of each request that was answered: what was paid for. */
  readonly calls: (readonly string[])[] = [];
  /** What the next requests fail with, first to last. */
  readonly failNext: FailureCode[] = [];

  async embed(...[, { texts }]: Parameters<Embedder['embed']>): ReturnType<Embedder['embed']> {
    const planted = this.failNext.shift();
    if (planted !== undefined) throw new EmbedError(planted, { retryAfterMs: 1 });
    if (texts.some((text) => text.includes(POISON))) throw new EmbedError('input_rejected');
    this.calls.push(texts);
    return {
      vectors: texts.map((text) => Float32Array.from(vectorOf(text))),
      tokens: texts.length,
      requestId: null,
      organization: null,
      limits: NO_LIMITS,
    };
  }
}

const NO_LIMITS = {
  requestsLimit: null,
  requestsRemaining: null,
  requestsResetMs: null,
  tokensLimit: null,
  tokensRemaining: null,
  tokensResetMs: null,
};

/** Lets everything through at once: the pace is not what these tests are about. */
function unhurriedPacer(): Pacer {
  const place = { go: true, waitMs: 0 } as Awaited<ReturnType<Pacer['reserve']>>;
  const pacer: Omit<Pacer, 'stateOf'> = {
    reserve: async () => place,
    left: async () => undefined,
    settled: async () => undefined,
    refused: async () => undefined,
    // The work is put to the test against the provider each time, as with a provider that is well.
    failed: async () => ({ next: 'probe', waitMs: 0 }),
    probed: async () => ({ waitMs: 0 }),
    released: async () => undefined,
    requestMax: async () => ({ requestBytesMax: 1_000_000 }) as Awaited<ReturnType<Pacer['requestMax']>>,
  };
  return pacer as Pacer;
}
