import { z } from 'zod';
import { TargetsFile } from '../../src/core/target.ts';

/** The JSON Schema of `targets.json`, for editors: `targets.schema.json`, formatted as Biome formats it. */
export function targetsSchema(): string {
  const schema = z.toJSONSchema(TargetsFile, {
    io: 'input',
    override: ({ zodSchema, jsonSchema }) => {
      if (zodSchema !== TargetsFile) return;
      jsonSchema.title = 'Infill targets';
      jsonSchema.description =
        'The tables that Infill keeps complete. Generated from the code by `npm run docs`.';
    },
  });
  const text = JSON.stringify(schema, null, 2);
  // Lists of names fit on a line, where Biome puts them.
  return `${text.replace(/\[\n[^[\]{}]*\]/g, oneLine)}\n`;
}

function oneLine(list: string): string {
  return list.replace(/\s+/g, ' ').replace('[ ', '[').replace(' ]', ']');
}
