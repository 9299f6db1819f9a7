import { Counter, type Registry } from 'prom-client';

export type WorkerMetrics = {
  /** Ends of attempts at a batch, by outcome: `done`, `left`, or the code of the failure. */
  readonly batches: Counter<'outcome'>;
  /** Runs that the sweep found without a live job. */
  readonly healed: Counter;
  /** Looks of the watch, by what became of them. */
  readonly looks: Counter<'target' | 'outcome'>;
};

export function createWorkerMetrics(registry: Registry): WorkerMetrics {
  const registers = [registry];
  return {
    batches: new Counter({
      name: 'infill_batch_attempts_total',
      help: 'Attempts at a batch that ended, by outcome.',
      labelNames: ['outcome'],
      registers,
    }),
    healed: new Counter({
      name: 'infill_runs_healed_total',
      help: 'Runs that had no live job and were planned again.',
      registers,
    }),
    looks: new Counter({
      name: 'infill_watch_looks_total',
      help: 'Looks of the watch for a missing row, by target and by what became of them.',
      labelNames: ['target', 'outcome'],
      registers,
    }),
  };
}
