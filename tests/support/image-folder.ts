import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, rename, rm, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, delimiter, dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { type DockerInstruction, type DockerStage, REPOSITORY, readStages } from './dockerfile.ts';

const run = promisify(execFile);

/** This Node first, as in the image; the machine's own may be older. */
const PATH = `${dirname(process.execPath)}${delimiter}${process.env.PATH}`;

export type ImageFolder = {
  /** The image's working directory, on this machine. */
  readonly folder: string;
  /** What the image's ENV instructions set. */
  readonly env: Readonly<Record<string, string>>;
  close(): Promise<void>;
};

/**
 * Does by hand, in a new folder, what building a Dockerfile does: copies what it copies, runs what it runs.
 *
 * What it cannot do is Alpine: commands run on this machine's system, with the Node that runs the tests.
 */
export async function buildImageFolder(file: string): Promise<ImageFolder> {
  const root = await mkdtemp(join(tmpdir(), 'infill-image-'));
  const stages = readStages(file);
  const rootOf = (stage: string) => join(root, stage);
  let workdir = '/';
  let env: Record<string, string> = {};

  for (const [index, stage] of stages.entries()) {
    const stageRoot = rootOf(stage.name ?? String(index));
    workdir = '/';
    env = {};
    for (const instruction of stage.instructions) {
      const cwd = join(stageRoot, workdir);
      if (instruction.keyword === 'WORKDIR') workdir = resolve(workdir, instruction.args[0] ?? '');
      if (instruction.keyword === 'ENV')
        Object.assign(env, Object.fromEntries(instruction.args.map(keyAndValue)));
      if (instruction.keyword === 'COPY') await copy(instruction, cwd, rootOf);
      if (instruction.keyword === 'RUN')
        await run('sh', ['-c', instruction.text], { cwd, env: installEnv(env) });
      await mkdir(join(stageRoot, workdir), { recursive: true });
    }
  }
  const last = stages.at(-1) as DockerStage;
  return {
    folder: join(rootOf(last.name ?? String(stages.length - 1)), workdir),
    env,
    close: () => rm(root, { recursive: true, force: true }),
  };
}

/** Like Docker: a folder's content goes to the destination, a file into it when there are several or it ends in `/`. */
async function copy({ args, flags }: DockerInstruction, cwd: string, rootOf: (stage: string) => string) {
  const from = flags.from === undefined ? REPOSITORY : rootOf(flags.from);
  const destination = resolve(cwd, args.at(-1) ?? '');
  for (const source of args.slice(0, -1)) {
    const path = join(from, source);
    const isFolder = (await stat(path)).isDirectory();
    const target = isFolder || !args.at(-1)?.endsWith('/') ? destination : join(destination, basename(path));
    // Out of another stage it is moved, which is quicker: nothing else here wants a stage's files.
    if (flags.from === undefined) await cp(path, target, { recursive: true });
    else await rename(path, target);
  }
}

function keyAndValue(assignment: string): [string, string] {
  const at = assignment.indexOf('=');
  return [assignment.slice(0, at), assignment.slice(at + 1)];
}

/** The machine's npm settings stay (its registry), those of the npm that runs the tests do not. */
function installEnv(env: Record<string, string>): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(
    ([name]) => !/^(npm_(lifecycle|package|command)|NODE_ENV$)/.test(name),
  );
  return { ...Object.fromEntries(own), npm_config_prefer_offline: 'true', ...env, PATH };
}

export type StartedProcess = {
  /** Everything it has printed so far. */
  output(): string;
  /** The exit code, once it has ended; null when a signal ended it. */
  readonly ended: Promise<number | null>;
  /** Asks it to stop, as `docker stop` does, and gives its exit code. */
  stop(): Promise<number | null>;
  /** Ends it if it still runs. */
  close(): Promise<void>;
};

/** Runs an image's command, with nothing of this process's environment but PATH. */
export function startInImage(
  image: ImageFolder,
  command: readonly string[],
  env: Record<string, string>,
): StartedProcess {
  const [program = '', ...args] = command;
  const child = spawn(program === 'node' ? process.execPath : program, args, {
    cwd: image.folder,
    env: { PATH, ...image.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text) => (output += text));
  const ended = once(child, 'close').then(([code]) => code as number | null);
  return {
    output: () => output,
    ended,
    stop: () => signal(child, 'SIGTERM', ended),
    close: async () => void (await signal(child, 'SIGKILL', ended)),
  };
}

async function signal(child: ChildProcess, name: NodeJS.Signals, ended: Promise<number | null>) {
  if (child.exitCode === null && child.signalCode === null) child.kill(name);
  return await ended;
}

/** A port of 127.0.0.1 that nobody listens on at the moment. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('a TCP server has a port');
  return address.port;
}
