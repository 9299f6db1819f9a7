/** Whether ioredis can take a URL of whatever scheme apart: it throws where the login cannot be decoded. */
export function isRedisUrl(text: string): boolean {
  return URL.canParse(text) && isLoginReadable(new URL(text));
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
