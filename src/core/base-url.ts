/**
 * A base URL in the one spelling that is stored and compared: scheme and host in lower case, no default port, no slash at
 * its end. Two spellings of an address would be two accounts to pace.
 *
 * What is no URL stays as it is, but for the slashes.
 */
export function normalBaseUrl(text: string): string {
  const written = URL.canParse(text) ? new URL(text).href : text;
  return written.replace(/\/+$/, '');
}
