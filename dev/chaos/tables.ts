/** The users' tables of the suite, and everything that the monkey does to their rows. */
import type postgres from 'postgres';
import { SeededRandom } from '../sample/random.ts';

export const MODEL = 'text-embedding-3-small';
export const DIMENSIONS = 8;

/** In every text: where it turns up in a log, a log holds a text. */
export const TEXT_MARK = 'quokka';
/** The provider refuses a request that holds a text with this word. */
export const POISON_WORD = 'wolfsbane';

/** Poisoned rows of a table: each keeps every later run of it from succeeding. */
const POISONED_MAX = 2;

export type ChaosTable = {
  /** Name of the target and of its table. */
  readonly name: string;
  readonly idType: 'bigint' | 'uuid' | 'text';
  /** Text columns: one, or two that are joined by a blank line. */
  readonly text: readonly string[];
  readonly hasMissingIndex: boolean;
};

/** One of each kind that a target can be. */
export const TABLES: readonly ChaosTable[] = [
  { name: 'notes', idType: 'bigint', text: ['content'], hasMissingIndex: true },
  { name: 'articles', idType: 'uuid', text: ['title', 'body'], hasMissingIndex: true },
  { name: 'tickets', idType: 'text', text: ['content'], hasMissingIndex: false },
];

const DEFAULT_IDS = {
  bigint: 'GENERATED ALWAYS AS IDENTITY',
  uuid: 'DEFAULT gen_random_uuid()',
  text: "DEFAULT 'T-' || md5(random()::text)",
} as const;

export async function createTables(sql: postgres.Sql): Promise<void> {
  for (const { name, idType, text, hasMissingIndex } of TABLES) {
    const columns = text.map((column) => `${column} text`).join(', ');
    await sql.unsafe(`
      CREATE TABLE ${name} (id ${idType} PRIMARY KEY ${DEFAULT_IDS[idType]}, tenant_id text, ${columns}, embedding vector(${DIMENSIONS}))`);
    if (hasMissingIndex) await sql.unsafe(`CREATE INDEX ON ${name} (tenant_id, id) WHERE embedding IS NULL`);
  }
}

/** `targets.json` for these tables. */
export function targetsJson(): string {
  const targets = TABLES.map(({ name, text }) => [
    name,
    {
      table: name,
      id: 'id',
      tenant: 'tenant_id',
      text,
      embedding: 'embedding',
      model: MODEL,
      dimensions: DIMENSIONS,
    },
  ]);
  return JSON.stringify({ targets: Object.fromEntries(targets) });
}

/** The text of a row as it is to be embedded: its columns that are not blank, joined by a blank line; empty if none is. */
export function textOfRow(columns: readonly (string | null)[]): string {
  if (columns.length === 1) return (columns[0] ?? '').trim() === '' ? '' : (columns[0] ?? '');
  return columns.filter((column) => (column ?? '').trim() !== '').join('\n\n');
}

/** The tenant that a text was written for; undefined for a text that is none of a row's. */
export function tenantOfText(text: string): string | undefined {
  return /^<([^>]+)> /.exec(text)?.[1];
}

type RowText = { readonly tenant: string; readonly columns: readonly (string | null)[] };

/**
 * Writes rows, and remembers what a later audit has to know: how many rows ever held a text, and how often a row was
 * edited. Every text is new unless it is meant to repeat another of its tenant.
 */
export class Rows {
  readonly #sql: postgres.Sql;
  readonly #random: SeededRandom;
  readonly #latest = new Map<string, RowText>();
  /** How many rows ever held a text. */
  readonly holders = new Map<string, number>();
  /** How often the text of a row was changed, by `table/id`. */
  readonly edits = new Map<string, number>();
  readonly done = { added: 0, edited: 0, deleted: 0 };
  readonly #poisoned = new Map<string, number>();
  #serial = 0;

  constructor(sql: postgres.Sql, seed: number) {
    this.#sql = sql;
    this.#random = new SeededRandom(`rows ${seed}`);
  }

  /** Adds rows without an embedding; some blank, some poisoned, some with a text that another row has. */
  async add(table: ChaosTable, tenants: readonly string[], count: number): Promise<void> {
    const rows = Array.from({ length: count }, () => this.#draw(table, this.#random.pick(tenants)));
    const columns = ['tenant_id', ...table.text];
    const values = rows.map(({ tenant, columns }) => [tenant, ...columns]);
    const arrays = columns.map((_, index) => values.map((value) => value[index] ?? null));
    await this.#sql.unsafe(
      `INSERT INTO ${table.name} (${columns.join(', ')})
       SELECT * FROM unnest(${columns.map((_, index) => `$${index + 1}::text[]`).join(', ')})`,
      arrays as never[],
    );
    for (const row of rows) this.#hold(textOfRow(row.columns));
    this.done.added += count;
  }

  /** Changes the text of rows, as an application does that knows that their embedding is then stale. */
  async edit(table: ChaosTable, count: number, pick: number): Promise<void> {
    const column = table.text[0] ?? 'content';
    // A word of its own, so that no two texts are ever the same by chance; poison goes with the first edit.
    const word = `edit${this.#serial++}`;
    const rows = await this.#sql.unsafe<{ id: string; columns: (string | null)[] }[]>(
      `UPDATE ${table.name}
          SET ${column} = '<' || tenant_id || '> ${TEXT_MARK} ${table.name} ' || id || ' ${word}', embedding = NULL
        WHERE id IN (${chosen(table, count)})
        RETURNING id::text, to_json(ARRAY[${table.text.join(', ')}]) AS columns`,
      [String(pick)],
    );
    for (const { id, columns } of rows) {
      this.#hold(textOfRow(columns));
      const key = `${table.name}/${id}`;
      this.edits.set(key, (this.edits.get(key) ?? 0) + 1);
    }
    this.done.edited += rows.length;
  }

  async delete(table: ChaosTable, count: number, pick: number): Promise<void> {
    const rows = await this.#sql.unsafe(
      `DELETE FROM ${table.name} WHERE id IN (${chosen(table, count)}) RETURNING 1`,
      [String(pick)],
    );
    this.done.deleted += rows.length;
  }

  #draw(table: ChaosTable, tenant: string): RowText {
    const chance = this.#random.next();
    const first =
      chance < 0.03 ? this.#random.pick([null, '', ' \n ']) : this.#newText(table, tenant, chance);
    const blankRest = first === null || first.trim() === '';
    const rest = table.text
      .slice(1)
      .map(() => (blankRest ? null : this.#random.pick([null, ' ', 'the body of it'])));
    const drawn = { tenant, columns: [first, ...rest] };
    const before = this.#latest.get(`${table.name}/${tenant}`);
    if (chance > 0.95 && before !== undefined) return before;
    if (!blankRest) this.#latest.set(`${table.name}/${tenant}`, drawn);
    return drawn;
  }

  #newText(table: ChaosTable, tenant: string, chance: number): string {
    const isPoisoned = chance < 0.04 && (this.#poisoned.get(table.name) ?? 0) < POISONED_MAX;
    if (isPoisoned) this.#poisoned.set(table.name, (this.#poisoned.get(table.name) ?? 0) + 1);
    const poison = isPoisoned ? ` ${POISON_WORD}` : '';
    const words = Array.from({ length: this.#random.integer(1, 30) }, () => this.#random.pick(WORDS));
    return `<${tenant}> ${TEXT_MARK} ${table.name} ${this.#serial++} ${words.join(' ')}${poison}`;
  }

  #hold(text: string): void {
    if (text !== '') this.holders.set(text, (this.holders.get(text) ?? 0) + 1);
  }
}

/** The same rows for the same pick, as long as there are the same rows. */
function chosen(table: ChaosTable, count: number): string {
  return `SELECT id FROM ${table.name} WHERE tenant_id IS NOT NULL ORDER BY md5(id::text || $1) LIMIT ${count}`;
}

const WORDS = [
  'late',
  'order',
  'invoice',
  'grün',
  'returns',
  '東京',
  'meeting',
  'blue',
  '"quoted"',
  'naïve',
  'o\u0301',
];
