/** What an insight can be about. A text is an observation, often with one of the causes and one of the actions. */
export type Topic = {
  readonly observations: readonly string[];
  readonly causes: readonly string[];
  readonly actions: readonly string[];
};
