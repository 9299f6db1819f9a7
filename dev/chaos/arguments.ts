import { parseArgs } from 'node:util';

export type ChaosArguments = {
  /** From the start of the first process to the end of the audit, when all goes well. */
  readonly minutes: number;
  /** Decides the schedule: what happens when, to whom. */
  readonly seed: number;
  /** Prints each trouble as it strikes and each text that was paid for twice, and keeps the logs. */
  readonly verbose: boolean;
};

const MINUTES_DEFAULT = 5;
/** Less leaves no time for trouble between the start and the end. */
const MINUTES_MIN = 1;
const MINUTES_MAX = 24 * 60;

/**
 * Reads `--minutes N --seed S --verbose`. Without a seed one is drawn, and printed, so that it can be given again.
 *
 * @throws {Error} with one line that says what was expected.
 */
export function parseChaosArguments(args: readonly string[], drawSeed: () => number): ChaosArguments {
  const { values } = parseArgs({
    // `npm run chaos -- --minutes 5` passes the rest on; typed by hand, a `--` may be left over in front of it.
    args: args.filter((argument) => argument !== '--'),
    options: {
      minutes: { type: 'string', default: String(MINUTES_DEFAULT) },
      seed: { type: 'string' },
      verbose: { type: 'boolean', default: false },
    },
  });
  const minutes = Number(values.minutes);
  if (!(minutes >= MINUTES_MIN && minutes <= MINUTES_MAX))
    throw new Error(
      `--minutes must be a number from ${MINUTES_MIN} to ${MINUTES_MAX}, got ${values.minutes}`,
    );
  const seed = values.seed === undefined ? drawSeed() : Number(values.seed);
  if (!Number.isSafeInteger(seed) || seed < 0)
    throw new Error(`--seed must be a whole number from 0, got ${values.seed}`);
  return { minutes, seed, verbose: values.verbose };
}
