/** The commands, their options, and which function each of them is. */
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { type Client, createClient } from './client.ts';
import { check, coverage, estimate, requireComplete } from './coverage.ts';
import { CommandError, EXIT, type ExitStatus, type Io } from './io.ts';
import { checkKey, listKeys, rekey, removeKey, setKey, showKey } from './keys.ts';
import { backfill, control, run, runs } from './runs.ts';
import { doctor, listQuarantine, listSwitches, releaseQuarantine, setSwitch, usage } from './upkeep.ts';

// biome-ignore lint/suspicious/noExplicitAny: commander gives options as they were declared
type Options = any;
type Work = (io: Io, client: Client, ...args: Options[]) => Promise<ExitStatus>;

/** Runs one command. Never rejects: what went wrong is a sentence on standard error, and the status. */
export async function runCommandLine(args: readonly string[], io: Io): Promise<ExitStatus> {
  let status: ExitStatus = EXIT.done;
  const program = buildProgram(io, (work) => async (...given: unknown[]) => {
    // Commander adds the command itself.
    status = await work(io, createClient(io), ...(given.slice(0, -1) as Options[]));
  });
  try {
    await program.parseAsync([...args], { from: 'user' });
    return status;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.wrongUse;
    if (!(error instanceof CommandError)) throw error;
    io.writeError(`infill: ${error.message}\n`);
    return error.exitStatus;
  }
}

type Action = (work: Work) => (...given: unknown[]) => Promise<void>;

function buildProgram(io: Io, action: Action): Command {
  const program = new Command('infill')
    .description('Keeps pgvector tables complete. Talks to the API at INFILL_URL with ADMIN_SECRET.')
    .addHelpText('after', '\nExit status: 0 done, 1 failed, 2 wrong use, 3 not complete.')
    .configureOutput({ writeOut: (text) => io.write(text), writeErr: (text) => io.writeError(text) })
    .showHelpAfterError('(infill --help lists the commands)');
  addCoverage(program, action);
  addRuns(program, action);
  addKeys(program, action);
  addUpkeep(program, action);
  for (const command of [program, ...allBelow(program)]) command.exitOverride();
  return program;
}

function allBelow(command: Command): Command[] {
  return command.commands.flatMap((one) => [one as Command, ...allBelow(one as Command)]);
}

const JSON_FLAG = ['--json', 'print JSON, for a machine'] as const;
const TARGET = ['--target <name>', 'of this target; default: all, or the first of targets.json'] as const;
const TENANT = ['--tenant <id>', 'of this tenant; may be given several times'] as const;

const several = (value: string, before: string[] = []) => [...before, value];

function wholeNumber(text: string): number {
  if (/^\d{1,12}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('expected a whole number');
}

function positiveNumber(text: string): number {
  const number = Number(text);
  if (text.trim() !== '' && number > 0 && Number.isFinite(number)) return number;
  throw new InvalidArgumentError('expected a number above 0');
}

function addCoverage(program: Command, action: Action): void {
  const command = (name: string, description: string) =>
    program
      .command(name)
      .description(description)
      .option(...TARGET)
      .option(...TENANT, several)
      .option(...JSON_FLAG);
  command('coverage', 'show what is embedded and what is missing').action(action(coverage));
  command('check', 'end with 0 if nothing is missing, with 3 if something is')
    .option('--max-missing <rows>', 'as many may be missing', wholeNumber)
    .action(action(check));
  command('require-complete', 'wait until nothing is missing')
    .option('--max-missing <rows>', 'as many may be missing', wholeNumber)
    .option('--timeout <seconds>', 'how long to wait at most', wholeNumber, 600)
    .action(action(requireComplete));
  command('estimate', 'say what filling the gaps would cost, without sending anything').action(
    action(estimate),
  );
}

function addRuns(program: Command, action: Action): void {
  program
    .command('backfill')
    .description('start a run')
    .option(...TARGET)
    .option(...TENANT, several)
    .option('--dry-run', 'call the provider and spend tokens, but write nothing')
    .option('--include-unverified', 'embed rows again whose vector has no stamp')
    .option('--batch-size <rows>', 'rows of a batch', wholeNumber)
    .option('--limit <rows>', 'embed at most so many rows', wholeNumber)
    .option('--max-cost <dollars>', 'stop when so much is spent', positiveNumber)
    .option('--max-tokens <tokens>', 'stop when so many are spent', wholeNumber)
    .option('--wait', 'follow it to its end')
    .option(...JSON_FLAG)
    .action(action(backfill));
  program
    .command('runs')
    .description('list runs, the newest first')
    .option('--limit <runs>', 'as many at most', wholeNumber, 20)
    .option(...JSON_FLAG)
    .action(action(runs));
  program
    .command('run <id>')
    .description('show a run and its tenants')
    .option('--wait', 'follow it to its end')
    .option(...JSON_FLAG)
    .action(action(run));
  for (const [name, description] of [
    ['pause', 'let a run stop after the batches in hand'],
    ['resume', 'let a paused run go on'],
    ['cancel', 'end a run after the batches in hand'],
    ['retry', 'try again what a settled run left'],
  ] as const) {
    const command = program.command(`${name} <id>`).description(description);
    if (name === 'retry') command.option(...TENANT, several);
    const work: Work = (io, client, id, options) => control(io, client, name, id, options);
    command.option(...JSON_FLAG).action(action(work));
  }
}

function addKeys(program: Command, action: Action): void {
  const keys = program.command('keys').description("tenants' keys");
  keys
    .command('list')
    .description('list all keys by their last four characters')
    .option(...JSON_FLAG)
    .action(action(listKeys));
  keys
    .command('show <tenant>')
    .description('show what is known of a key')
    .option(...JSON_FLAG)
    .action(action(showKey));
  keys
    .command('set <tenant>')
    .description('store a key, which is read from standard input')
    .option('--base-url <url>', 'where the key is sent')
    .option('--organization <id>', 'organisation that is billed')
    .option('--requests-per-minute <number>', 'its limit, or unlimited')
    .option('--tokens-per-minute <number>', 'its limit, or unlimited')
    .option('--weight <number>', 'its share of the slots beside others', positiveNumber)
    .option('--no-check', 'store it without trying it first')
    .option(...JSON_FLAG)
    .action(action(setKey));
  keys
    .command('check <tenant>')
    .description('try a stored key')
    .option(...JSON_FLAG)
    .action(action(checkKey));
  keys
    .command('remove <tenant>')
    .description('remove a key')
    .option(...JSON_FLAG)
    .action(action(removeKey));
  program
    .command('rekey')
    .description('seal all keys anew with CREDENTIALS_KEY, after it was changed')
    .option('--accept-addresses', 'take the addresses of old seals for true, after you have looked at them')
    .option(...JSON_FLAG)
    .action(action(rekey));
}

function addUpkeep(program: Command, action: Action): void {
  const quarantine = program.command('quarantine').description('rows that were set aside');
  const filtered = (name: string, description: string) =>
    quarantine
      .command(name)
      .description(description)
      .option(...TARGET)
      .option(...TENANT, several)
      .option('--code <code>', 'set aside for this reason')
      .option(...JSON_FLAG);
  filtered('list', 'list them').action(action(listQuarantine));
  filtered('release', 'let the next run try them again')
    .option('--row <id>', 'this row; may be given several times', several)
    .action(action(releaseQuarantine));

  const switches = program.command('switches').description('what an operator holds');
  switches
    .command('list')
    .description('list what is held')
    .option(...JSON_FLAG)
    .action(action(listSwitches));
  switches
    .command('hold <scope> [name]')
    .description('admit nothing more: of "global", "target NAME" or "tenant ID"')
    .option('--reason <text>', 'shown on every run that is held')
    .option(...JSON_FLAG)
    .action(
      action((io, client, scope, name, options) => setSwitch(io, client, true, [scope, name], options)),
    );
  switches
    .command('release <scope> [name]')
    .description('let it go on')
    .option(...JSON_FLAG)
    .action(
      action((io, client, scope, name, options) => setSwitch(io, client, false, [scope, name], options)),
    );
  program
    .command('usage')
    .description('show what was spent, by tenant and month')
    .option('--month <yyyy-mm>', 'in this month; default: the present one')
    .option(...TENANT, several)
    .option(...JSON_FLAG)
    .action(action(usage));
  program
    .command('doctor')
    .description('find what is wrong with the set-up')
    .option(...JSON_FLAG)
    .action(action(doctor));
}
