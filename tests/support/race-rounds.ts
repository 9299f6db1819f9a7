import { isRealPostgres } from './system.ts';

/** Embedded Postgres is one session: nothing races there, so that a few rounds show what there is to see. */
const ROUNDS_EMBEDDED = 3;
/** Races of so many rounds are what the product promises: the suite runs them all. */
export const PROMISED_ROUNDS = 200;
/** Share of any other race's rounds that the suite runs; `RACE_SHARE=1` runs them all. */
const SHARE_DEFAULT = 0.1;

export function raceRounds(times: number): number {
  if (!isRealPostgres()) return ROUNDS_EMBEDDED;
  if (times === PROMISED_ROUNDS) return times;
  return Math.ceil(times * Number(process.env['RACE_SHARE'] ?? SHARE_DEFAULT));
}
