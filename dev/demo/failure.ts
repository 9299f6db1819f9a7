/** A failure that the demo can explain: its message is for a person. */
export class DemoFailure extends Error {
  /** Whose last log lines help to understand it. */
  readonly related: { readonly name: string; logTail(): string[] } | undefined;

  constructor(message: string, related?: DemoFailure['related']) {
    super(message);
    this.name = 'DemoFailure';
    this.related = related;
  }
}
