/** `npm run docs`: writes what is generated from the code. `tests/unit/docs-configuration.test.ts` says when that is due. */
import { writeFile } from 'node:fs/promises';
import { configurationPage } from './configuration-page.ts';
import { targetsSchema } from './targets-schema.ts';

const repository = new URL('../../', import.meta.url);

/** Every generated file, by its path in the repository. */
const generated = {
  'docs/configuration.md': configurationPage(),
  'targets.schema.json': targetsSchema(),
};

for (const [path, text] of Object.entries(generated)) {
  await writeFile(new URL(path, repository), text);
  console.log(`wrote ${path}`);
}
