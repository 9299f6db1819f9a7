import { lookup as dnsLookup, type LookupAddress } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';
import { buildConnector } from 'undici';
import { EmbedError } from '../core/failures.ts';
import { isPublicAddress } from '../core/public-address.ts';

/** Looks up the addresses of a name, as `dns.lookup` with `all` does. */
export type LookUp = (
  hostname: string,
  options: { readonly all: true },
  callback: (error: Error | null, addresses: LookupAddress[]) => void,
) => void;

/**
 * Makes connections to addresses of the public internet alone.
 *
 * The addresses that a name was looked up to are checked and then connected to, so that a name which leads elsewhere a moment
 * later gains nothing. One address that is not public refuses the name. The error is `address_refused`.
 */
export function publicConnector(
  timeoutMs: number,
  lookUp: LookUp = (hostname, options, callback) => dnsLookup(hostname, options, callback),
): buildConnector.connector {
  const connect = buildConnector({ allowH2: false, timeout: timeoutMs, lookup: checkedLookUp(lookUp) });
  return (options, callback) => {
    const address = options.hostname.replace(/^\[|\]$/g, '');
    // Nothing is looked up for an address.
    if (isIP(address) !== 0 && !isPublicAddress(address)) callback(new EmbedError('address_refused'), null);
    else connect(options, callback);
  };
}

function checkedLookUp(lookUp: LookUp): LookupFunction {
  return (hostname, options, callback) => {
    lookUp(hostname, { ...options, all: true }, (error, addresses) => {
      if (error !== null) return callback(error as NodeJS.ErrnoException, []);
      const [first] = addresses;
      if (first === undefined || !addresses.every(({ address }) => isPublicAddress(address)))
        return callback(new EmbedError('address_refused'), []);
      if (options.all === true) callback(null, addresses);
      else callback(null, first.address, first.family);
    });
  };
}
