/**
 * A base URL in the one spelling that is stored and compared: scheme and host in lower case, no default port, no slash at
 * the end of its path. A query stays as it is: Azure wants `?api-version=…`. Two spellings of an address would be two accounts to pace.
 *
 * What is no URL stays as it is, but for the slashes.
 */
export function normalBaseUrl(text: string): string {
  const written = URL.canParse(text) ? new URL(text).href : text;
  const [, path = '', query = ''] = /^([^?#]*)(.*)$/s.exec(written) ?? [];
  return path.replace(/\/+$/, '') + query;
}

/** The address of an endpoint below a base URL; the query of the base URL comes after its path. */
export function endpointUrl(baseUrl: string, path: string): string {
  const [, base = '', query = ''] = /^([^?]*)(.*)$/s.exec(baseUrl) ?? [];
  return base + path + query;
}
