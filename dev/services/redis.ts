import { type ChildService, startChildService } from './child-service.ts';

/**
 * Starts a `redis-server` of its own on loopback, empty, that keeps nothing on disk and evicts nothing.
 *
 * On a free port, or on `port`, so that a test can bring a killed one back where its clients look for it. Takes about
 * 0.2 s; where Redis is not installed, installs it if it may (see `findRedisServer`).
 *
 * @throws {Error} when there is no Redis or the given port is taken; why is on stderr.
 */
export function startEmbeddedRedis({ port }: { port?: number } = {}): Promise<ChildService> {
  const entry = new URL('./redis-main.ts', import.meta.url);
  return startChildService(entry, port === undefined ? [] : [String(port)]);
}
