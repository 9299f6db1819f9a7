import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { REPOSITORY } from './dockerfile.ts';

export type ComposeService = {
  readonly image?: string;
  readonly build?: { readonly context: string; readonly dockerfile: string };
  readonly command?: readonly string[];
  readonly container_name?: string;
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly environment?: Readonly<Record<string, string>>;
  readonly env_file?: readonly string[];
  readonly ports?: readonly string[];
  readonly volumes?: readonly (string | { readonly source: string; readonly target: string })[];
  readonly healthcheck?: { readonly test?: readonly string[]; readonly disable?: boolean };
  readonly mem_limit?: string;
  readonly restart?: string;
  readonly stop_grace_period?: string;
  readonly deploy?: { readonly replicas?: number | string };
};

export type ComposeFile = {
  readonly services: Readonly<Record<string, ComposeService>>;
  readonly volumes: Readonly<Record<string, unknown>>;
};

/** `${NAME}`, `${NAME:-default}` and `${NAME:?message}`: all that docker-compose.yml uses. */
const REFERENCE = /\$\{(?<name>[A-Z_]+)(?::-(?<fallback>[^}]*)|:\?(?<message>[^}]*))?\}/g;

export function readComposeText(): string {
  return readFileSync(`${REPOSITORY}/docker-compose.yml`, 'utf8');
}

/** Names of the variables that docker-compose.yml takes from `.env`, without repetition. */
export function composeVariables(): readonly string[] {
  return [...new Set(Array.from(readComposeText().matchAll(REFERENCE), (match) => match.groups?.name ?? ''))];
}

/**
 * The text of docker-compose.yml with its variables filled in as Compose does it.
 *
 * @throws {Error} when a variable that must be set is not.
 */
export function interpolate(env: Readonly<Record<string, string>>): string {
  return readComposeText().replaceAll(REFERENCE, (...match) => {
    const { name, fallback, message } = match.at(-1) as Record<string, string | undefined>;
    const value = env[name ?? ''] || fallback;
    if (value === undefined && message !== undefined) throw new Error(`${name}: ${message}`);
    return value ?? '';
  });
}

/** docker-compose.yml as Compose sees it, YAML merge keys included. */
export function readCompose(
  env: Readonly<Record<string, string>> = {
    POSTGRES_PASSWORD: 'secret',
    WORK_PASSWORD: 'work',
    REDIS_PASSWORD: 'queue',
  },
): ComposeFile {
  return parse(interpolate(env), { merge: true }) as ComposeFile;
}
