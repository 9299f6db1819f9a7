/** Bars of a run and of its tenants, as they grow. */
import type { Json } from './client.ts';

export type Bars = {
  show(run: Json, tenants: readonly Json[]): void;
  close(): void;
};

/** More would push the first out of the window. */
const TENANTS_SHOWN_MAX = 8;
const NAME_WIDTH = 24;

/** Loaded only where a person looks. */
export async function openBars(): Promise<Bars> {
  const { MultiBar, Presets } = await import('cli-progress');
  const bars = new MultiBar(
    {
      format: '{name} {bar} {value} of {total}  {status}',
      hideCursor: true,
      clearOnComplete: false,
      stopOnComplete: false,
      gracefulExit: false,
    },
    Presets.shades_classic,
  );
  const shown = new Map<string, ReturnType<typeof bars.create>>();
  const set = (name: string, { embedded, planned }: Json, status: string) => {
    const known = shown.get(name);
    const bar = known ?? bars.create(planned, 0);
    shown.set(name, bar);
    bar.setTotal(planned);
    bar.update(embedded, { name: cut(name), status });
  };
  return {
    show(run, tenants) {
      set('all tenants', run.rows, run.status);
      const isShown = ({ tenantId }: Json) => shown.has(`  ${tenantId}`);
      const others = tenants.filter((one) => !isShown(one) && one.status !== 'queued');
      const room = TENANTS_SHOWN_MAX + 1 - shown.size;
      for (const { tenantId, rows, status } of [
        ...tenants.filter(isShown),
        ...others.slice(0, Math.max(0, room)),
      ])
        set(`  ${tenantId}`, rows, status);
    },
    close: () => bars.stop(),
  };
}

function cut(name: string): string {
  return (name.length > NAME_WIDTH ? `${name.slice(0, NAME_WIDTH - 1)}…` : name).padEnd(NAME_WIDTH);
}
