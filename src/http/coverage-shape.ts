import { z } from 'zod';

/** Rows by what can be said of their embedding, wherever the API shows that. All but `stale` add up to the rows of the target. */
export const CoverageShape = z.object({
  missing: z.number().describe('Text, and no embedding of it: what a run fills.'),
  stale: z.number().describe('Those of `missing` that have an embedding of an earlier text or model.'),
  unverified: z.number().describe('An embedding and no stamp, so that nobody knows which text it is of.'),
  quarantined: z.number().describe('Set aside, with a reason, until the text or the model changes.'),
  unembeddable: z.number().describe('Blank texts: there is nothing to embed.'),
  embedded: z.number(),
  estimated: z
    .boolean()
    .describe('Whether a number comes from statistics of the database, not from a count.'),
});
