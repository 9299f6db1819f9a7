/** What a command has of the world, and how it ends. */

export type Io = {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Where a key is read from. */
  readonly stdin: AsyncIterable<Buffer | string> & { readonly isTTY?: boolean | undefined };
  write(text: string): void;
  writeError(text: string): void;
  /** Whether a person looks at what is written. */
  readonly isTerminal: boolean;
  /** Aborts with Ctrl-C. */
  readonly interrupted: AbortSignal;
};

/** What a command ends with. */
export const EXIT = { done: 0, failed: 1, wrongUse: 2, notComplete: 3 } as const;
export type ExitStatus = (typeof EXIT)[keyof typeof EXIT];

/** Ends a command with a sentence for the person who gave it. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly exitStatus: ExitStatus;

  constructor(message: string, exitStatus: ExitStatus = EXIT.failed) {
    super(message);
    this.exitStatus = exitStatus;
  }
}
