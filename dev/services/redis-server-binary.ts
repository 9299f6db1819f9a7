import { findProgram } from './debian-package.ts';

/**
 * Returns the path of a `redis-server`: the first on PATH, or else one that this call installs.
 *
 * @throws {Error} with one line that says how to install Redis, where it neither finds nor installs one.
 */
export function findRedisServer(): string {
  return findProgram('redis-server', HOW_TO_INSTALL);
}

const HOW_TO_INSTALL =
  'redis-server was not found on PATH: install Redis (apt-get install redis-server, dnf install redis, brew install redis) and try again';
