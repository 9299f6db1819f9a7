import type { RunView } from '../../src/http/run-page.ts';

/** A run in the middle of its work, with a tenant of an awkward name. */
export function sampleRun(runId = 'r1'): RunView {
  return {
    run: {
      runId,
      target: 'workflow_insights',
      status: 'running',
      reason: null,
      message: 'Backfilling 382 embeddings.',
      dryRun: false,
      batchSize: 50,
      progress: 40,
      rows: {
        planned: 1_382,
        embedded: 553,
        superseded: 2,
        gone: 1,
        quarantined: 0,
        failed: 0,
        remaining: null,
      },
      requests: 12,
      tokens: 48_210,
      costUsd: 0.00096,
      etaSeconds: 75,
      tenants: { total: 2, settled: 1 },
      createdAt: '2025-03-01T10:00:00.000Z',
      startedAt: '2025-03-01T10:00:01.000Z',
      settledAt: null,
    },
    tenants: [
      {
        tenantId: 'acme & sons',
        status: 'succeeded',
        reason: null,
        rows: { planned: 500, embedded: 500, remaining: 0 },
        requests: 10,
        tokens: 40_000,
      },
      {
        tenantId: 'globex',
        status: 'running',
        reason: null,
        rows: { planned: 882, embedded: 53 },
        requests: 2,
        tokens: 8_210,
      },
    ],
  };
}
