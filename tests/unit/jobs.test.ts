import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  BATCH_ATTEMPTS_MAX,
  BATCH_BACKOFF,
  PAYLOAD_VERSION,
  PlanRunPayload,
  PlanTenantPayload,
  planRunId,
  planRunJob,
  planTenantId,
  planTenantJob,
  QUEUES,
  RunBatchPayload,
  runBatchId,
  runBatchJob,
} from '../../src/queue/jobs.ts';

const runId = randomUUID();
const run = { runId, generation: 3 };
const tenant = { ...run, tenantId: 'acme' };
const batch = { ...tenant, sequence: 7, afterId: null, throughId: '99', rows: 50 };
const tenantId = fc.string({ unit: 'binary', minLength: 1 });

describe('an id of a job', () => {
  test('invariant: is one that BullMQ takes, and no two jobs share one', () => {
    fc.assert(
      fc.property(
        tenantId,
        tenantId,
        fc.integer({ min: 1 }),
        fc.integer({ min: 1 }),
        (one, other, generation, sequence) => {
          const ids = [one, other].flatMap((name) => [
            planTenantId({ runId, generation, tenantId: name }),
            runBatchId({ runId, generation, tenantId: name, sequence }),
          ]);
          for (const id of [planRunId({ runId, generation }), ...ids]) {
            expect(id).toMatch(/^[a-z][\w-]+$/);
            expect(id.length).toBeLessThan(120);
          }
          expect(new Set(ids).size).toBe(one === other ? 2 : 4);
        },
      ),
    );
  });

  test('is the same for the same key, and another in another generation', () => {
    expect(runBatchId(batch)).toBe(runBatchId({ ...batch }));
    expect(planRunId(run)).not.toBe(planRunId({ ...run, generation: 4 }));
    expect(planTenantId(tenant)).not.toBe(planTenantId({ ...tenant, generation: 4 }));
    expect(runBatchId(batch)).not.toBe(runBatchId({ ...batch, generation: 4 }));
  });
});

describe('a payload', () => {
  test('holds keys and a version, and nothing else', () => {
    expect(planRunJob(run, 'notes').data).toEqual({ v: 1, ...run, step: 'plan' });
    expect(planTenantJob(tenant).data).toEqual({ v: 1, ...tenant });
    expect(runBatchJob(batch).data).toEqual({ v: 1, ...batch });
  });

  test('is what its own schema takes', () => {
    expect(PlanRunPayload.safeParse(planRunJob(run, 'notes').data).success).toBe(true);
    expect(PlanTenantPayload.safeParse(planTenantJob(tenant).data).success).toBe(true);
    expect(RunBatchPayload.safeParse(runBatchJob(batch).data).success).toBe(true);
  });

  test('of another version, or none, is not taken', () => {
    // 2 is that of a batch that settles its tenant.
    for (const v of [PAYLOAD_VERSION + 2, undefined])
      expect(RunBatchPayload.safeParse({ ...runBatchJob(batch).data, v }).success).toBe(false);
  });
});

describe('a job', () => {
  test('carries in its name what is shown of it', () => {
    expect(planRunJob(run, 'notes').name).toBe('run notes');
    expect(planTenantJob(tenant).name).toBe('tenant acme');
    expect(runBatchJob(batch).name).toBe('batch acme #7');
  });

  test('of a tenant or a batch that fails does not fail its parent, nor hold it up', () => {
    for (const { opts } of [planTenantJob(tenant), runBatchJob(batch)])
      expect(opts.ignoreDependencyOnFailure).toBe(true);
  });

  test('of a batch is tried eight times, at the distances that the workers choose', () => {
    expect(BATCH_ATTEMPTS_MAX).toBe(8);
    expect(runBatchJob(batch).opts).toMatchObject({ attempts: 8, backoff: { type: BATCH_BACKOFF } });
  });

  test('that has ended is kept for a day and a thousand jobs, so that Redis stays small', () => {
    for (const { opts } of [planRunJob(run, 'notes'), planTenantJob(tenant), runBatchJob(batch)]) {
      expect(opts.removeOnComplete).toEqual({ age: 86_400, count: 1_000 });
      expect(opts.removeOnFail).toEqual({ age: 86_400, count: 1_000 });
    }
  });
});

test('the names of the queues hold no colon', () => {
  expect(Object.values(QUEUES)).toEqual(['backfill-runs', 'backfill-tenants', 'backfill-batches']);
});
