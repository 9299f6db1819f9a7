/** `npm run start:worker`: plans runs, embeds batches, settles, sweeps. Any number of these may run. */
import { startProgram } from './start.ts';

await startProgram('worker-main');
