/** Statements on `infill.switches`: what an operator has switched off. */
import { sql } from 'drizzle-orm';
import type { Db } from './client.ts';

export type SwitchScope = 'global' | 'target' | 'tenant';

export type Switch = {
  readonly scope: SwitchScope;
  /** The target or the tenant; empty for the global switch. */
  readonly name: string;
  readonly reason: string | null;
  readonly actor: string;
  readonly since: string;
};

/** Switches that are on, in the order of scope and name. */
export async function listSwitches(db: Db): Promise<Switch[]> {
  const rows = await db.execute<Switch>(sql`
    SELECT scope, name, reason, actor, to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS "since"
      FROM infill.switches ORDER BY scope, name`);
  return [...rows];
}

/** Holds what a switch names. A second call replaces the reason and keeps the time. */
export async function holdSwitch(db: Db, held: Omit<Switch, 'since'>): Promise<void> {
  await db.execute(sql`
    INSERT INTO infill.switches (scope, name, reason, actor) VALUES (${held.scope}, ${held.name}, ${held.reason}, ${held.actor})
    ON CONFLICT (scope, name) DO UPDATE SET reason = excluded.reason, actor = excluded.actor`);
}

/** Lets what a switch names go on. Does nothing when it was not held. */
export async function releaseSwitch(db: Db, { scope, name }: Pick<Switch, 'scope' | 'name'>): Promise<void> {
  await db.execute(sql`DELETE FROM infill.switches WHERE scope = ${scope} AND name = ${name}`);
}
