import { defineConfig } from 'drizzle-kit';

export default defineConfig({
  dialect: 'postgresql',
  schema: ['./src/db/schema.ts', './src/db/upkeep-schema.ts'],
  out: './drizzle',
  schemaFilter: ['infill'],
});
