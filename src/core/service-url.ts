/** Whether ioredis can take a URL of whatever scheme apart: it throws where the login cannot be decoded. */
export function isRedisUrl(text: string): boolean {
  return URL.canParse(text) && isLoginReadable(new URL(text));
}

/**
 * Whether postgres.js can take a URL apart, by its own steps (3.4.9, `parseUrl`): more than a URL may be, since it also
 * takes a list of hosts, `a:1,b:2`, of which the first stands for all while the rest is read.
 */
export function isPostgresUrl(text: string): boolean {
  const [authority = ''] = text.slice(text.indexOf('://') + 3).split(/[?/]/);
  const hosts = decoded(authority.slice(authority.indexOf('@') + 1));
  if (hosts === undefined) return false;
  const [host = ''] = hosts.split(',');
  const single = text.replace(hosts, () => host);
  return URL.canParse(single) && isLoginReadable(new URL(single));
}

function isLoginReadable({ username, password }: URL): boolean {
  return decoded(username) !== undefined && decoded(password) !== undefined;
}

/** Undefined when a `%` begins nothing. */
function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
