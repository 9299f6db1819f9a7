import { mayBePublicHost } from './public-address.ts';

/**
 * A base URL in the one spelling that is stored and compared: scheme and host in lower case, no default port, no slash at
 * the end of its path. A query stays as it is: Azure wants `?api-version=…`. Two spellings of an address would be two accounts to pace.
 *
 * What is no URL stays as it is, but for the slashes.
 */
export function normalBaseUrl(text: string): string {
  const written = URL.canParse(text) ? new URL(text).href : text;
  const [, path = '', query = ''] = /^([^?#]*)(.*)$/s.exec(written) ?? [];
  return path.replace(/(?<!\/)\/+$/, '') + query;
}

/** The address of an endpoint below a base URL; the query of the base URL comes after its path. */
export function endpointUrl(baseUrl: string, path: string): string {
  const [, base = '', query = ''] = /^([^?]*)(.*)$/s.exec(baseUrl) ?? [];
  return base + path + query;
}

/** Base URLs that the operator chose, each in its normal spelling. */
export type OwnBaseUrls = {
  readonly defaultBaseUrl: string;
  /** What else a credential may name although it is not https, or leads to this network. */
  readonly allowedBaseUrls: readonly string[];
};

/** Whether the operator chose an address, so that its key may go there whoever wrote it down. */
export function isOwnBaseUrl(base: string, { defaultBaseUrl, allowedBaseUrls }: OwnBaseUrls): boolean {
  return base === defaultBaseUrl || allowedBaseUrls.includes(base);
}

/** Fields of a query that hold what nobody should read: an address is shown, stored and logged as it is. */
const SECRET_NAME = /key|token|secret|password|signature|^sig$|auth/i;

/** Whether a tenant's key may be sent to an address: one that the operator chose, or a plain https URL of the public internet. */
export function mayReceiveKeys(base: string, own: OwnBaseUrls): boolean {
  if (isOwnBaseUrl(base, own)) return true;
  const url = URL.canParse(base) ? new URL(base) : undefined;
  const isPlain = url !== undefined && url.username === '' && url.password === '' && !/#|\?$/.test(base);
  const holdsSecret = [...(url?.searchParams.keys() ?? [])].some((name) => SECRET_NAME.test(name));
  return isPlain && !holdsSecret && url.protocol === 'https:' && mayBePublicHost(url.hostname);
}
