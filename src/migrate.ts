/** `npm run migrate`: brings the schema `infill` up to date, and exits. */
import { ConfigError, loadEnvFile, parseDatabaseUrl } from './config.ts';
import { postgresTrouble } from './core/postgres-trouble.ts';
import { migrate } from './db/migrate.ts';

loadEnvFile(process.env);

try {
  await migrate(parseDatabaseUrl(process.env));
  process.stdout.write('The schema "infill" is up to date.\n');
} catch (error) {
  process.stderr.write(
    `${error instanceof ConfigError ? error.message : `The migration failed: ${reasonOf(error)}`}\n`,
  );
  process.exitCode = 1;
}

/** What Postgres said, not the statement to which it said it. */
function reasonOf(error: unknown): string {
  const { cause } = error as Error;
  const said = (cause instanceof Error ? cause : (error as Error)).message;
  const trouble = postgresTrouble(error);
  return trouble === undefined ? said : `Postgres is not usable: ${trouble} (${said})`;
}
