/** Answers that take long on a large table: fresh where they come soon, else the last one, with its age. */
import type { Answer } from './frame.ts';

/** How long a page waits for fresh figures before it shows the last ones. */
const PATIENCE_MS = 200;
/** Figures that are older are not shown. */
const KEPT_MS = 600_000;
const KEYS_MAX = 100;

export type RecentAnswer = { readonly answer: Answer; readonly atMs: number };

export class Recent {
  readonly #last = new Map<string, RecentAnswer>();
  readonly #underWay = new Map<string, Promise<RecentAnswer>>();

  /** Undefined while the first answer is still being made. Whoever asks for the same meanwhile waits for the same answer. */
  async of(key: string, load: () => Promise<Answer>): Promise<RecentAnswer | undefined> {
    let loading = this.#underWay.get(key);
    if (loading === undefined) {
      loading = load().then((answer) => ({ answer, atMs: Date.now() }));
      this.#underWay.set(key, loading);
      void loading
        .then(
          (fresh) => this.#keep(key, fresh),
          () => undefined,
        )
        .finally(() => this.#underWay.delete(key));
    }
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), PATIENCE_MS);
    });
    const fresh = await Promise.race([loading, late]).finally(() => clearTimeout(timer));
    if (fresh !== undefined) return fresh;
    const last = this.#last.get(key);
    return last !== undefined && Date.now() - last.atMs < KEPT_MS ? last : undefined;
  }

  #keep(key: string, fresh: RecentAnswer): void {
    if (this.#last.size >= KEYS_MAX) this.#last.clear();
    this.#last.set(key, fresh);
  }
}
