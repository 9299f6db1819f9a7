import type { Db } from '../../src/db/client.ts';
import type { Lane } from '../../src/db/lane.ts';

/** What a test does around every statement, every commit and every call of the provider. */
export type Hooks = { around<T>(work: () => Promise<T>): Promise<T> };

/** `db`, with each statement, and each transaction as a whole, done by way of `hooks`. */
export function hookedDb(db: Db, hooks: Hooks): Db {
  return new Proxy(db, {
    get(target, name, self) {
      if (name === 'execute') {
        return (query: Parameters<Db['execute']>[0]) => hooks.around(async () => target.execute(query));
      }
      if (name === 'transaction') {
        return (work: (tx: Db) => Promise<unknown>) =>
          hooks.around(() => target.transaction((tx) => work(hookedDb(tx as unknown as Db, hooks))));
      }
      const value: unknown = Reflect.get(target, name, self);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** `lane`, with each transaction done by way of `hooks`. */
export function hookedLane(lane: Lane, hooks: Hooks): Lane {
  return { transaction: (...args) => hooks.around(() => lane.transaction(...args)) };
}

/** Pauses of random length, from a seed, so that two callers meet at other statements each time. */
export function jitter(random: () => number, pauseMsMax = 3): Hooks {
  return {
    async around(work) {
      // Half of the statements go at once: the others then meet them at every distance.
      if (random() < 0.5) await new Promise((resolve) => setTimeout(resolve, random() * pauseMsMax));
      return work();
    },
  };
}

/** Stands still before its `step`th statement, from 1, until `thaw` resolves: a process that was frozen for a while. */
export function frozenAt(step: number, thaw: Promise<unknown>): Hooks {
  let steps = 0;
  return {
    async around(work) {
      steps++;
      if (steps === step) await thaw;
      return work();
    },
  };
}

/** A process that is killed. */
export type Mortal = Hooks & { isDead(): boolean };

class Killed extends Error {}

/**
 * A process that dies at its `step`th call of a service, from 1: before the call goes out, or after it came through and
 * before its answer is there. Nothing that it tries from then on happens.
 */
export function dyingAt(step: number, when: 'before' | 'after'): Mortal {
  let steps = 0;
  let dead = false;
  return {
    isDead: () => dead,
    async around(work) {
      if (dead) throw new Killed('dead already');
      steps++;
      if (steps !== step) return work();
      if (when === 'after') await work();
      dead = true;
      throw new Killed(`killed ${when} step ${step}`);
    },
  };
}

/** Whether an error is the death of a process. */
export function isDeath(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause) if (at instanceof Killed) return true;
  return false;
}

/** A process that nothing happens to. */
export const untroubled: Mortal = { isDead: () => false, around: (work) => work() };
