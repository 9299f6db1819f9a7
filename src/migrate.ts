/** `npm run migrate`: brings the schema `infill` up to date, and exits. */
import { ConfigError, loadEnvFile, parseDatabaseUrl } from './config.ts';
import { migrate } from './db/migrate.ts';

loadEnvFile(process.env);

try {
  await migrate(parseDatabaseUrl(process.env));
  process.stdout.write('The schema "infill" is up to date.\n');
} catch (error) {
  process.stderr.write(
    `${error instanceof ConfigError ? error.message : `The migration failed: ${(error as Error).message}`}\n`,
  );
  process.exitCode = 1;
}
