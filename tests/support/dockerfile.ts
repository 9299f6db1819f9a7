import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { DockerfileParser, type ModifiableInstruction } from 'dockerfile-ast';

export const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url));

export type DockerInstruction = {
  /** `RUN`, `COPY` and so on. */
  readonly keyword: string;
  readonly flags: Readonly<Record<string, string>>;
  /** What follows the flags, split at blanks. */
  readonly args: readonly string[];
  /** What follows the flags, as a shell gets it. */
  readonly text: string;
};

export type DockerStage = {
  readonly image: string;
  /** Undefined for a stage that no other can copy from. */
  readonly name: string | undefined;
  readonly instructions: readonly DockerInstruction[];
};

/** Reads a Dockerfile of the repository as its stages, the last of which is the image. */
export function readStages(file: string): readonly DockerStage[] {
  const stages: { image: string; name: string | undefined; instructions: DockerInstruction[] }[] = [];
  for (const instruction of parseInstructions(readFileSync(`${REPOSITORY}/${file}`, 'utf8'))) {
    if (instruction.keyword === 'FROM') {
      const [image = '', , name] = instruction.args;
      stages.push({ image, name, instructions: [] });
    } else {
      stages.at(-1)?.instructions.push(instruction);
    }
  }
  return stages;
}

/** The image that a Dockerfile makes: its last stage. */
export function readImage(file: string): DockerStage {
  const image = readStages(file).at(-1);
  if (image === undefined) throw new Error(`${file} has no FROM`);
  return image;
}

/** What the last instruction with this keyword says; the ones before it have no effect. */
export function lastOf(stage: DockerStage, keyword: string): DockerInstruction {
  const found = stage.instructions.findLast((instruction) => instruction.keyword === keyword);
  if (found === undefined) throw new Error(`there is no ${keyword}`);
  return found;
}

/** The words of an instruction in exec form. Null for the shell form, in which a shell would be process 1. */
export function execForm({ text }: DockerInstruction): readonly string[] | null {
  if (!text.startsWith('[')) return null;
  return JSON.parse(text) as string[];
}

function parseInstructions(text: string): DockerInstruction[] {
  return DockerfileParser.parse(text)
    .getInstructions()
    .map((instruction) => {
      const flags = (instruction as Partial<ModifiableInstruction>).getFlags?.() ?? [];
      const args = instruction.getArguments().map((argument) => argument.getValue());
      const content = instruction.getArgumentsContent() ?? '';
      return {
        keyword: instruction.getKeyword(),
        flags: Object.fromEntries(flags.map((flag) => [flag.getName(), flag.getValue() ?? ''])),
        args,
        text: content,
      };
    });
}
