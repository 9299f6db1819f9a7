/** `npm run start:api`: the admin API and Bull Board. Any number of these may run. */
import { startProgram } from './start.ts';

await startProgram('api-main');
