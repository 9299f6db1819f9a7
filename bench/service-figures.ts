/** CPU time of the services of a world: of the backends of its database, and of its Redis. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import postgres from 'postgres';
import { cpuMs } from './process-figures.ts';
import type { World } from './world.ts';

export type ServiceFigures = { readonly postgresMs: number; readonly redisMs: number };

const LOOK_EVERY_MS = 100;
const WATCH = 'infill-bench-watch';

/**
 * Adds up what Postgres and Redis use for the world from now until `stop`.
 *
 * Postgres must run on this machine. What a backend uses in the last 100 ms before it ends is missed; the processes that all
 * databases share (the writer of the WAL, the checkpointer) are not counted.
 */
export async function watchServices(
  world: Pick<World, 'databaseUrl' | 'redisUrl'>,
): Promise<{ stop(): Promise<ServiceFigures> }> {
  const sql = postgres(world.databaseUrl, { max: 1, connection: { application_name: WATCH } });
  const redis = new Redis(world.redisUrl);
  const backends = new Map<number, { first: number; last: number }>();
  let stopped = false;

  const look = async (isFirst: boolean) => {
    const rows = await sql<{ pid: number }[]>`
      SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name <> ${WATCH}`;
    for (const { pid } of rows) {
      const used = usedBy(pid);
      if (used === undefined) continue;
      const first = backends.get(pid)?.first ?? (isFirst ? used : 0);
      backends.set(pid, { first, last: used });
    }
  };
  const redisMs = async () => {
    const info = await redis.info('cpu');
    const seconds = (name: string) => Number(new RegExp(`^${name}:(\\S+)`, 'm').exec(info)?.[1]);
    return (seconds('used_cpu_user') + seconds('used_cpu_sys')) * 1_000;
  };

  await look(true);
  const redisBeforeMs = await redisMs();
  const watching = (async () => {
    while (!stopped) {
      await sleep(LOOK_EVERY_MS);
      await look(false);
    }
  })();
  return {
    async stop() {
      stopped = true;
      await watching;
      const figures = {
        postgresMs: [...backends.values()].reduce((sum, { first, last }) => sum + last - first, 0),
        redisMs: (await redisMs()) - redisBeforeMs,
      };
      await sql.end();
      redis.disconnect();
      return figures;
    },
  };
}

/** Undefined for a process that has ended. */
function usedBy(pid: number): number | undefined {
  try {
    return cpuMs(pid);
  } catch {
    return undefined;
  }
}
